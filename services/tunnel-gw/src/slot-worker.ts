// SPDX-License-Identifier: Apache-2.0
// The thread that builds the slots of chains of many paths, so that punts and health wait for none of it. In and out: slot-builder.ts.
import { parentPort } from 'node:worker_threads';
import { describeError } from '@detour/core';
import { buildSelection, SlotRace } from '@detour/tables';
import type { SlotOrder, SlotReport } from './slot-builder.js';

const port = parentPort;
if (port === null) throw new Error('slot-worker.js runs on a worker thread only');
/** Of the chains built last: what of a table does not change with a few weights. At most 650 kB each. */
const races = new Map<number, SlotRace>();
const MOST_RACES = 64;

function raceOf(chain: number): SlotRace {
  const race = races.get(chain) ?? new SlotRace(chain);
  races.delete(chain);
  races.set(chain, race);
  const [oldest] = races.keys();
  if (races.size > MOST_RACES && oldest !== undefined) races.delete(oldest);
  return race;
}

port.on('message', ({ ask, members, chain }: SlotOrder) => {
  let report: SlotReport;
  try {
    report = { ask, ok: true, slots: buildSelection(members, chain, raceOf(chain)) };
  } catch (error) {
    report = { ask, ok: false, why: describeError(error) };
  }
  port.postMessage(report);
});
