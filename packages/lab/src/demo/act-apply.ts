// SPDX-License-Identifier: Apache-2.0
/** Act 1: the operator's intent is put in force, and the gateway finds its firewalls. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../wait.js';
import { type Act, expectThat, ms } from './act.js';
import { demoIntent } from './demo-intent.js';

interface Applied {
  readonly revision: number;
  readonly gateways: readonly { readonly name: string; readonly state: string; readonly running: number }[];
}

export const applyAct: Act = {
  number: 1,
  title: "The lab's intent is applied",
  async play({ lab, stack, detour, fw1, fw2, signal }, tell) {
    const file = join(lab.dir, 'intent.json');
    writeFileSync(file, `${JSON.stringify(demoIntent(), null, 2)}\n`);
    await tell.step('detour apply --wait', async () => {
      const startMs = performance.now();
      const { revision, gateways } = await stack.cliJson<Applied>(['apply', '-f', file, '--wait', '--timeout', '20s']);
      const tookMs = performance.now() - startMs;
      const text = gateways.map(({ name, state }) => `${name} ${state}`).join(', ');
      expectThat(gateways.length === 1 && gateways.every((one) => one.running === revision), text);
      return `revision ${revision} is in force, ${text} after ${ms(tookMs)}`;
    });
    await tell.step('both firewalls are up: BFD with BIRD and with FRR, and an echo through each', async (progress) => {
      const startMs = performance.now();
      const isReady = async (): Promise<boolean> => {
        const sessions = await Promise.all([fw1, fw2].map(({ name }) => detour.session(name)));
        const shares = await detour.shares();
        const scores = await detour.scores();
        progress(sessions.map(({ node, health }) => `${node} ${health}`).join(', '));
        return (
          sessions.every((session) => session.health === 'up' && session.echoUp) &&
          [...shares.values()].every((share) => share > 0) &&
          scores.size === 2
        );
      };
      await waitFor(isReady, { what: 'both firewalls to be up', timeoutMs: 30_000, everyMs: 200, signal });
      const tookMs = performance.now() - startMs;
      const peers = (await Promise.all([fw1.bfdPeers(), fw2.bfdPeers()])).flat();
      const down = peers.filter(({ state }) => state !== 'up');
      expectThat(
        peers.length === 2 && down.length === 0,
        `their daemons say: ${peers.map(({ address, state }) => `${address} ${state}`).join(', ')}`,
      );
      const { detectTimeUs } = await detour.session(fw1.name);
      return `after ${ms(tookMs)}; detection time ${ms(detectTimeUs / 1_000)}; their daemons agree`;
    });
  },
};
