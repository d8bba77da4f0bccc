// SPDX-License-Identifier: Apache-2.0
// kernel.bpf_stats_enabled: the kernel times every run of every BPF program while it is 1, which costs each of them some 50 ns.
import { readFileSync, writeFileSync } from 'node:fs';

const SWITCH = '/proc/sys/kernel/bpf_stats_enabled';

/** Does something while nothing is timed; the switch is put back afterwards. */
export function withoutBpfStats<T>(work: () => Promise<T>): Promise<T> {
  return withBpfStats('0', work);
}

/** Does something while runs are timed. */
export function timingPrograms<T>(work: () => Promise<T>): Promise<T> {
  return withBpfStats('1', work);
}

async function withBpfStats<T>(value: '0' | '1', work: () => Promise<T>): Promise<T> {
  const was = readFileSync(SWITCH, 'utf8');
  writeFileSync(SWITCH, value);
  try {
    return await work();
  } finally {
    writeFileSync(SWITCH, was);
  }
}
