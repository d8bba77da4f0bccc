// SPDX-License-Identifier: Apache-2.0
// The route thread's entry: takes its namespace, then follows routes until told to stop.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { enterNamespace } from './namespace.js';
import { RouteLoop } from './route-loop.js';
import type { RouteOrder, RouteReport } from './route-messages.js';
import type { WorkerSetup } from './worker-setup.js';

function main(setup: WorkerSetup): void {
  const port = parentPort;
  if (port === null) throw new Error('route-worker.js runs on a worker thread only');
  if (setup.netns !== null) enterNamespace(setup.netns);
  const loop = new RouteLoop({
    takeOrder: () => receiveMessageOnPort(port)?.message as RouteOrder | undefined,
    report: (report: RouteReport) => port.postMessage(report),
  });
  port.postMessage({ kind: 'started', wakeFd: loop.wakeFd } satisfies RouteReport);
  loop.run();
}

main(workerData as WorkerSetup);
