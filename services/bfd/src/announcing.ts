// SPDX-License-Identifier: Apache-2.0
// Puts what is known of this gateway together into the mark that its routing daemon follows: what tunnel-gw says, the programs on its devices, the
// health of its nodes.

import type { AlarmBook } from '@detour/bus';
import type { SteeringReport } from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { type Announced, Announcement } from './announcement.js';
import type { HealthBoard } from './health-board.js';
import { isMarked, MarkerRoute } from './marker-route.js';
import { canonicalAddress } from './netlink-wire.js';
import { ProgramWatch } from './program-watch.js';

export interface AnnouncingSpec {
  /** What the routing daemon announces; none: this gateway is not announced by Detour. */
  readonly addresses: readonly string[];
  readonly graceMs: number;
  readonly board: Pick<HealthBoard, 'listen' | 'settled'>;
  readonly alarms: Pick<AlarmBook, 'raise' | 'clear'>;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Announcing extends AsyncDisposable {
  readonly state: Announced;
  readonly heardOf: (steering: SteeringReport) => Announced;
}

const NOT_ASKED: Announced = { announced: false, why: '' };

/** @throws Fault when the kernel does not say which marks there are. */
export async function startAnnouncing(spec: AnnouncingSpec): Promise<Announcing> {
  const { graceMs, board, alarms, clock, log } = spec;
  const addresses = spec.addresses.map(canonicalAddress);
  if (addresses.length === 0)
    return { state: NOT_ASKED, heardOf: () => NOT_ASKED, [Symbol.asyncDispose]: async () => {} };
  const marker = new MarkerRoute({
    ...{ addresses, clock },
    onTrouble: (why) => {
      if (why !== null)
        log.error({}, `the routing daemon is not told whether to announce this gateway: ${why}`);
    },
  });
  const announced = await isMarked(addresses);
  if (announced) marker.want(true); // all of them
  let wasAnnounced = announced;
  const announcement = new Announcement({
    ...{ clock, graceMs, announced },
    onChange: (now) => {
      marker.want(now.announced);
      wasAnnounced ||= now.announced;
      const isFailure = wasAnnounced && !now.announced && !announcement.isDrained;
      if (now.announced) log.info({ addresses }, 'this gateway is announced to routers');
      else log[isFailure ? 'warn' : 'info']({ addresses }, `this gateway is not announced: ${now.why}`);
      if (isFailure) alarms.raise('gateway_withdrawn', '', `routers leave this gateway: ${now.why}`);
      else alarms.clear('gateway_withdrawn', '');
    },
  });
  const watch = new ProgramWatch({
    clock,
    onBare: (bare) =>
      announcement.object('datapath', bare.length === 0 ? null : `no program is on ${bare.join(', ')}`),
    onTrouble: (why) => log.warn({}, `what is on the devices is not known: ${why}`),
  });
  const off = board.listen(() => void (board.settled && announcement.settled()));
  return {
    get state() {
      return announcement.state;
    },
    heardOf: ({ devices, withhold }) => {
      watch.follow(devices);
      announcement.object('drain', withhold === '' ? null : withhold);
      announcement.heard();
      return announcement.state;
    },
    async [Symbol.asyncDispose]() {
      off();
      announcement[Symbol.dispose]();
      await watch[Symbol.asyncDispose]();
      await marker[Symbol.asyncDispose]();
    },
  };
}
