// SPDX-License-Identifier: Apache-2.0
/** Packets of a crowd's flows straight to the gateways, past the router's choice: the same one to several, or to one alone. */
import { type Lab, twoGateways } from '@detour/lab';
import { startAgent } from './agent-link.js';
import { crowdMacs, crowdServer } from './crowd.js';
import type { FlowRange } from './crowd-protocol.js';
import type { CrowdPlace, PacketKind } from './crowd-wire.js';

export type TwinsConfig = Omit<CrowdPlace, 'gatewayMac'> & {
  readonly devices: readonly { readonly device: string; readonly gatewayMac: string }[];
};

export interface SendTwins extends FlowRange {
  readonly op: 'send';
  /** `answer`: a message that nobody answers. */
  readonly kind: Extract<PacketKind, 'syn' | 'ask' | 'answer'>;
  /** The gateways that get each packet. */
  readonly to: readonly string[];
  /** Flows whose packets leave one device before those of the next leave theirs; default 8. */
  readonly atOnce?: number;
  /** Rest after so many flows, ms. */
  readonly everyMs: number;
}

export interface TwinsSent {
  /** Flows whose first and last packet left within a millisecond. */
  readonly within1Ms: number;
}

export interface Twins extends AsyncDisposable {
  send(flows: Omit<SendTwins, 'op'>): Promise<TwinsSent>;
}

/** From the clients' router: its devices are called as the gateways behind them. */
export function startTwins(lab: Lab): Twins {
  const config: TwinsConfig = {
    ...{
      role: 'client',
      ownMac: crowdMacs.client.ownMac,
      server: crowdServer.address,
      port: crowdServer.port,
    },
    devices: twoGateways.map(({ name }, place) => ({
      device: name,
      gatewayMac: `02:00:00:01:0${place + 1}:01`,
    })),
  };
  const agent = startAgent(lab, 'rin', 'twins-main', config);
  return {
    send: (flows) => agent.ask<TwinsSent>({ op: 'send', ...flows }),
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
}
