// SPDX-License-Identifier: Apache-2.0
// Medians and their spread, of few and noisy samples.

export interface Summary {
  readonly median: number;
  /** Half of the range between the first and third quartile, as a share of the median: 0.05 is ± 5 %. */
  readonly spread: number;
  readonly runs: number;
}

/** @throws RangeError when there is nothing to summarise. */
export function summarise(values: readonly number[]): Summary {
  const median = quantile(values, 0.5);
  const range = quantile(values, 0.75) - quantile(values, 0.25);
  return { median, spread: median === 0 ? 0 : range / 2 / Math.abs(median), runs: values.length };
}

/** The q-quantile (0..1), between neighbours by proportion. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined) throw new RangeError('no samples to summarise');
  return low + (high - low) * (at - Math.floor(at));
}
