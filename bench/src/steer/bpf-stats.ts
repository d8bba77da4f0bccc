// SPDX-License-Identifier: Apache-2.0
// kernel.bpf_stats_enabled: the kernel times every run of every BPF program while it is 1, which costs each of them some 50 ns.

import { readFileSync, writeFileSync } from 'node:fs';
import { type BpfProgram, programInfo } from '@detour/bpf';

const SWITCH = '/proc/sys/kernel/bpf_stats_enabled';

export function setBpfStats(on: boolean): void {
  writeFileSync(SWITCH, on ? '1' : '0');
}

/** Puts the switch back to where it is now, after the work. */
export async function restoringBpfStats<T>(work: () => Promise<T>): Promise<T> {
  const was = readFileSync(SWITCH, 'utf8');
  try {
    return await work();
  } finally {
    writeFileSync(SWITCH, was);
  }
}

/** Nanoseconds of one run of a program, the mean of those that `work` sets off; programs must be timed meanwhile. */
export async function meanRun(program: BpfProgram, work: () => Promise<unknown>): Promise<number> {
  const before = programInfo(program.fd);
  await work();
  const after = programInfo(program.fd);
  return Number(after.runTimeNs - before.runTimeNs) / Number(after.runCount - before.runCount);
}
