// SPDX-License-Identifier: Apache-2.0
// CPU time of processes and of one CPU, as the kernel accounts it (10 ms ticks).
import { readdirSync, readFileSync } from 'node:fs';

const TICK_SECONDS = 0.01; // USER_HZ is 100 on every architecture that runs Node
/** Fields of /proc/PID/stat behind the command's name: utime, stime. */
const UTIME = 11;
const STIME = 12;
/** Fields of a cpu line of /proc/stat. */
const IDLE = 3;
const IOWAIT = 4;
const STEAL = 7;
const COUNTED = 8;

/** User and system time of a process in seconds; 0 when it is gone. */
export function processSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[UTIME]) + Number(fields[STIME])) * TICK_SECONDS;
  } catch {
    return 0; // no such process any more
  }
}

export interface CpuSeconds {
  readonly busy: number;
  readonly idle: number;
  /** Time that the machine below took away. */
  readonly stolen: number;
}

/** What one CPU has done since boot, in seconds. */
export function cpuSeconds(cpu: number): CpuSeconds {
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((one) => one.startsWith(`cpu${cpu} `));
  const fields = (line ?? '')
    .split(' ')
    .slice(1, 1 + COUNTED)
    .map(Number);
  const at = (index: number): number => (fields[index] ?? 0) * TICK_SECONDS;
  const idle = at(IDLE) + at(IOWAIT);
  const stolen = at(STEAL);
  const all = fields.reduce((sum, ticks) => sum + ticks, 0) * TICK_SECONDS;
  return { busy: all - idle - stolen, idle, stolen };
}

/** Pid of the kernel thread that takes over a CPU's packet work when there is too much of it. */
export function ksoftirqdPid(cpu: number): number {
  const comm = `ksoftirqd/${cpu}`;
  const pid = readdirSync('/proc')
    .filter((entry) => /^[0-9]+$/.test(entry))
    .find((entry) => commOf(entry) === comm);
  return pid === undefined ? 0 : Number(pid);
}

function commOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // it ended meanwhile
  }
}
