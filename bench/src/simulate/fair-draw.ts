// SPDX-License-Identifier: Apache-2.0
// What chance alone does: flows that each take a node by lot, with exactly the probabilities that the scores ask for. No table can do better.
import { worstOver } from './accounting.js';
import type { Random } from './random.js';

/** The most loaded of the nodes after so many flows, over its share. */
export function fairWorstOver(shares: readonly number[], flows: number, random: Random): number {
  const ends: number[] = [];
  let total = 0;
  for (const share of shares) {
    total += share;
    ends.push(total);
  }
  if (total === 0) return 0;
  const counts = new Uint32Array(shares.length);
  for (let i = 0; i < flows; i++) {
    const place = firstAbove(ends, random.unit() * total);
    counts[place] = (counts[place] ?? 0) + 1;
  }
  return worstOver(counts, shares);
}

/** The first place whose value is above x. */
function firstAbove(ends: readonly number[], x: number): number {
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] ?? 0) > x) high = middle;
    else low = middle + 1;
  }
  return low;
}
