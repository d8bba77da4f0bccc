// SPDX-License-Identifier: Apache-2.0
// The timing loop's clock.

/** CLOCK_MONOTONIC in microseconds. */
export function nowUs(): number {
  return Number(process.hrtime.bigint()) / 1000;
}
