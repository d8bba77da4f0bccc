// SPDX-License-Identifier: Apache-2.0
// The timing thread's entry: takes its rights and its namespace, then runs the session loop until told to stop.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { C, lastFault, libc } from './libc.js';
import type { LoopOrder, LoopReport } from './loop-messages.js';
import { becomeRealtime } from './realtime.js';
import { SessionLoop } from './session-loop.js';

/** What the main thread hands over at start. */
export interface WorkerSetup {
  /** A network namespace to run in (/run/netns/…); null for that of the process. */
  readonly netns: string | null;
}

function enterNamespace(path: string): void {
  const fd = libc().open(path, C.O_RDONLY);
  if (fd < 0) throw lastFault(`opening network namespace ${path}`);
  const entered = libc().setns(fd, C.CLONE_NEWNET); // this thread only
  if (entered < 0) throw lastFault(`entering network namespace ${path}`);
  libc().close(fd);
}

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
