// SPDX-License-Identifier: Apache-2.0
/** A lab with one firewall as its only node, up, and what tests about packet sizes ask of it. */
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Firewall,
  type Lab,
  type LabSpec,
  openFirewall,
  type Stack,
  standardIntent,
  standardLab,
  startStack,
  startTraffic,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';

export interface OneFirewall extends AsyncDisposable {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly client: TrafficAgent;
  readonly fw1: Firewall;
  apply(intent: IntentDocument): Promise<void>;
  /** Packets dropped as too big. */
  tooBig(): Promise<number>;
  /** Stacks that have heard what fits remember it for minutes. */
  forgetPathMtus(): Promise<void>;
}

const bfd = { intervalMs: 100, multiplier: 5 } as const;
export const oneFirewallIntent: IntentDocument = standardIntent({ firewalls: 1, bfd });

/** `change` makes the lab another one before it is raised. */
export async function raiseOneFirewall(
  name: string,
  options: { readonly underlayMtu: number; readonly change?: (spec: LabSpec) => LabSpec },
): Promise<OneFirewall> {
  const { underlayMtu, change = (spec) => spec } = options;
  const lab = await createLab(change(standardLab({ firewalls: 1, underlayMtu, bfd })), {
    name: `${name}-${process.pid}`,
  });
  try {
    const stack = await startStack(lab);
    const made: OneFirewall = {
      ...{ lab, stack, client: startTraffic(lab, 'client'), fw1: openFirewall(lab, 'fw1') },
      async apply(intent) {
        const { code, stderr } = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '60s'], {
          input: JSON.stringify(intent),
          timeoutMs: 90_000,
        });
        if (code !== 0) throw new Error(`detour apply: exit code ${code}: ${stderr}`);
      },
      async tooBig() {
        const rows = await stack.cliJson<{ reason: string; packets: number }[]>(['get', 'drops']);
        return rows.find(({ reason }) => reason === 'too_big')?.packets ?? 0;
      },
      async forgetPathMtus() {
        for (const ns of ['client', 'server'])
          for (const family of ['-4', '-6']) await lab.exec(ns, ['ip', family, 'route', 'flush', 'cache']);
      },
      [Symbol.asyncDispose]: () => lab.close(),
    };
    await made.apply(oneFirewallIntent);
    const isUp = async (): Promise<boolean> => {
      const [path] = await stack.cliJson<{ gateways: { share: number }[] }[]>(['get', 'paths']);
      return path?.gateways[0]?.share === 1;
    };
    await waitFor(isUp, { what: 'fw1 to be chosen', timeoutMs: 30_000, everyMs: 200 });
    return made;
  } catch (error) {
    await lab.close();
    throw error;
  }
}
