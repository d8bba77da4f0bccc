// SPDX-License-Identifier: Apache-2.0
// The timing thread's entry: takes its rights and its namespace, then runs the session loop until told to stop.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { LoopOrder, LoopReport } from './loop-messages.js';
import { enterNamespace } from './namespace.js';
import { becomeRealtime } from './realtime.js';
import { SessionLoop } from './session-loop.js';
import type { WorkerSetup } from './worker-setup.js';

function main(setup: WorkerSetup): void {
  const port = parentPort;
  if (port === null) throw new Error('worker.js runs on a worker thread only');
  if (setup.netns !== null) enterNamespace(setup.netns);
  const realtime = becomeRealtime('timing');
  const loop = new SessionLoop({
    takeOrder: () => receiveMessageOnPort(port)?.message as LoopOrder | undefined,
    report: (report: LoopReport) => port.postMessage(report),
  });
  port.postMessage({ kind: 'started', wakeFd: loop.wakeFd, realtime } satisfies LoopReport);
  loop.run();
}

main(workerData as WorkerSetup);
