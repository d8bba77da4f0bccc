// SPDX-License-Identifier: Apache-2.0
// Sessions with the routers beside this gateway, from settings alone: they must run with no NATS and no intent, for they tell the routers that
// this machine and the links to it live. Nothing here acts on them: what a router does with a session that goes down is its own affair.

import { Fault } from '@detour/core';
import type { SessionSpec } from './loop-messages.js';
import { canonicalAddress } from './netlink-wire.js';

export interface RouterSettings {
  /** device/own address/router's address. */
  readonly routers: readonly string[];
  readonly routerEveryMs: number;
  readonly routerMultiplier: number;
}

/** @throws Fault `invalid` naming the entry whose addresses are none, or are of two families. */
export function routerSessions({ routers, routerEveryMs, routerMultiplier }: RouterSettings): SessionSpec[] {
  return routers.map((entry) => {
    const [device = '', own = '', router = ''] = entry.split('/');
    const [local, peer] = [addressOf(entry, own), addressOf(entry, router)];
    if (local.includes(':') !== peer.includes(':'))
      throw new Fault('invalid', `DETOUR_ROUTERS: ${entry} has addresses of two families: give two of one`);
    return {
      id: `router/${device}/${peer}`,
      ...{ node: '', vrf: '', device, local, peer, hears: peer, end: null },
      ...{ multihop: null, echo: null },
      timers: {
        desiredMinTxUs: routerEveryMs * 1000,
        requiredMinRxUs: routerEveryMs * 1000,
        detectMult: routerMultiplier,
      },
    };
  });
}

function addressOf(entry: string, text: string): string {
  try {
    return canonicalAddress(text);
  } catch (error) {
    throw new Fault(
      'invalid',
      `DETOUR_ROUTERS: ${text} in ${entry} is no IP address: write device/own address/router's address, as eth1/10.0.10.1/10.0.10.2`,
      error,
    );
  }
}
