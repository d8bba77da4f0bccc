// SPDX-License-Identifier: Apache-2.0
// The drain of this gateway put together: what it asks of the gateway, of its counters and of who writes pins.
import type { StateMirror } from '@detour/bus';
import type { Clock, Log } from '@detour/core';
import { readArrivals } from './counters.js';
import type { Gateway } from './gateway.js';
import { GatewayDrain } from './gateway-drain.js';
import { flushPins } from './pin-flush.js';
import type { PinKeeper } from './pin-keeper.js';

export interface DrainSpec {
  readonly name: string;
  readonly gateway: Gateway;
  readonly keeper: PinKeeper;
  readonly mirror: StateMirror;
  readonly runDir: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Says what it knows from its predecessor; follows the state bucket once it is started. */
export function gatewayDrain({ name, gateway, keeper, mirror, runDir, clock, log }: DrainSpec): GatewayDrain {
  const { core, flowMaps: maps, slots, lent, counterMaps } = gateway;
  return new GatewayDrain({
    ...{ gateway: name, runDir, mirror, clock, log },
    recordPins: (onLeft, signal) =>
      flushPins(
        {
          ...{ maps, slots, onLeft, clock },
          chains: () => core.liveTables?.chains ?? new Map(),
          noticeTaken: () => lent.noticeTaken(),
          refreshing: () => keeper.refreshing,
          onRefresh: (pins) => keeper.refresh(pins, gateway),
          onUnrecorded: (pins) => keeper.record(pins, gateway),
        },
        signal,
      ),
    readArrivals: () => (core.running === null ? null : readArrivals(counterMaps, core.running.model.ports)),
    lastSweep: () => gateway.lastSweep,
  });
}
