// SPDX-License-Identifier: Apache-2.0
// How a score is written: enough significant decimal digits to compare, few enough to read.
const SCORE_DIGITS = 6;

/** Never below 0. */
export function roundScore(value: number): number {
  return Number(Math.max(0, value).toPrecision(SCORE_DIGITS));
}
