// SPDX-License-Identifier: Apache-2.0
/** A lab of address pairs with the stack running, a crowd for each VRF, and the questions that tests ask. */
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Lab,
  type RawSender,
  type Stack,
  startForward,
  startRawSender,
  startStack,
  waitFor,
} from '@detour/lab';
import { controllersAt, gatewayAt, gatewayLimits, grpcPorts } from './acceptance-lab.js';
import { type Crowd, startCrowd } from './crowd.js';
import { applyIntent, askGateway, type GatewayQuestions } from './gateway-questions.js';
import { type PairIntentOptions, pairIntent } from './pair-intent.js';
import { edgeDevices, type PairPlace, pairPlace, pairTopology } from './pair-topology.js';

export interface PairLabOptions extends PairIntentOptions {
  readonly vrfs?: readonly string[];
  readonly trunk?: boolean;
  readonly beforeStack?: (lab: Lab) => Promise<void>;
  /** Rows (VRFs) that must be up before the test begins; default all. */
  readonly awaitUp?: readonly string[];
  /** How long `apply` may take; default 30,000. */
  readonly applyWithinMs?: number;
  readonly change?: (intent: IntentDocument) => IntentDocument;
}

export interface PairLab extends GatewayQuestions {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly intent: IntentDocument;
  place(vrf: string): PairPlace;
  /** A crowd between the north and the south of a VRF; made at the first call. */
  crowd(vrf: string): Crowd;
  /** Sends frames from a namespace's eth0; made at the first call. */
  sender(ns: string): RawSender;
  apply(intent: IntentDocument): Promise<void>;
  /** Stops the node's forwarding, both links staying up, or lets it go on. */
  forward(vrf: string, on: boolean): Promise<void>;
  /** Resolves when the policy row of the VRF says that (`up`, `down`, …). */
  awaitRow(vrf: string, bfd: string, timeoutMs?: number): Promise<void>;
}

export async function startPairLab(name: string, options: PairLabOptions = {}): Promise<PairLab> {
  const vrfs = options.vrfs ?? ['red'];
  const places = vrfs.map((vrf, index) => pairPlace(vrf, index));
  const trunk = options.trunk ?? false;
  const lab = await createLab(pairTopology({ vrfs, trunk }), { name: `${name}-${process.pid}` });
  const closers: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of closers.reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    await options.beforeStack?.(lab);
    const guardDevices = places.flatMap(({ index }) => [edgeDevices(index).up, edgeDevices(index).inside]);
    const stack = await startStack(lab, {
      gateways: [{ name: 'edge1', ns: 'edge1', management: gatewayAt, guardDevices }],
      env: (service, id) => ({
        DETOUR_LISTEN: `${service === 'tunnel-gw' || service === 'bfd' ? gatewayAt : controllersAt}:${grpcPorts[id]}`,
        ...(service === 'tunnel-gw' && gatewayLimits),
      }),
    });
    closers.push(stack);
    const toGateway = { address: gatewayAt, port: grpcPorts['tunnel-gw'] ?? 0 };
    const forward = await startForward(lab, 'mgmt', toGateway);
    closers.push(forward);
    const gateway = askGateway(forward.port);
    closers.push(gateway);
    const crowds = new Map<string, Crowd>();
    const senders = new Map<string, RawSender>();
    const intent = pairIntent(vrfs, options);
    const made: PairLab = {
      ...gateway,
      lab,
      stack,
      intent: options.change?.(intent) ?? intent,
      place: (vrf) => pairPlace(vrf, vrfs.indexOf(vrf)),
      crowd: (vrf) => kept(crowds, vrf, () => startCrowd(lab, spaces(vrf)), closers),
      sender: (ns) => kept(senders, ns, () => startRawSender(lab, ns, 'eth0'), closers),
      apply: (next) => applyIntent(stack, next, options.applyWithinMs),
      async forward(vrf, on) {
        const { node } = trunk ? pairPlace(vrfs[0] ?? '', 0) : made.place(vrf);
        await lab.exec(node, ['bridge', 'link', 'set', 'dev', 'b', 'state', on ? 'forwarding' : 'disabled']);
      },
      async awaitRow(vrf, bfd, timeoutMs = 30_000) {
        const row = async () => (await gateway.tables()).policies.find((one) => one.vrf === vrf)?.bfd;
        await waitFor(async () => (await row()) === bfd, {
          what: `the row of ${vrf} to be ${bfd}`,
          timeoutMs,
          everyMs: 10,
        });
      },
      [Symbol.asyncDispose]: close,
    };
    await made.apply(made.intent);
    for (const vrf of options.awaitUp ?? vrfs) await made.awaitRow(vrf, 'up');
    return made;
  } catch (error) {
    await close();
    throw error;
  }
}

/** The client of a crowd is in the north, where packets come in by the uplink. */
function spaces(vrf: string): { client: string; server: string } {
  return { client: `north-${vrf}`, server: `south-${vrf}` };
}

function kept<T extends AsyncDisposable>(
  all: Map<string, T>,
  key: string,
  make: () => T,
  closers: AsyncDisposable[],
): T {
  const known = all.get(key);
  if (known !== undefined) return known;
  const one = make();
  all.set(key, one);
  closers.push(one);
  return one;
}
