// SPDX-License-Identifier: Apache-2.0
// Puts a process before what else runs on the machine: figures are to be those of Detour, not of who shares the machine.
import { existsSync, writeFileSync } from 'node:fs';

const NICE = -15;

/** Favours the scheduling group of the process's session (sched(7), autogroup); without autogroups, nothing is changed. */
export function favour(pid: number): void {
  const path = `/proc/${pid}/autogroup`;
  if (existsSync(path)) writeFileSync(path, String(NICE));
}
