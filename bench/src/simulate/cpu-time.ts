// SPDX-License-Identifier: Apache-2.0
// CPU time of this process: what else runs on the machine does not count, as it does in time by the clock.

/** What `work` returns, and the milliseconds of CPU that it took. */
export function cpuMs<T>(work: () => T): [T, number] {
  const before = process.cpuUsage();
  const done = work();
  const { user, system } = process.cpuUsage(before);
  return [done, (user + system) / 1000];
}
