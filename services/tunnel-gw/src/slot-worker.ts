// SPDX-License-Identifier: Apache-2.0
// The thread that builds the slots of chains of many paths, so that punts and health wait for none of it. In and out: slot-builder.ts.
import { parentPort } from 'node:worker_threads';
import { describeError } from '@detour/core';
import { buildSelection } from '@detour/tables';
import type { SlotOrder, SlotReport } from './slot-builder.js';

const port = parentPort;
if (port === null) throw new Error('slot-worker.js runs on a worker thread only');

port.on('message', ({ ask, members, chain }: SlotOrder) => {
  let report: SlotReport;
  try {
    report = { ask, ok: true, slots: buildSelection(members, chain) };
  } catch (error) {
    report = { ask, ok: false, why: describeError(error) };
  }
  port.postMessage(report);
});
