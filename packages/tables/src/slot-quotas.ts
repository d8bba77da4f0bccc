// SPDX-License-Identifier: Apache-2.0
// Quotas: how many slots each path has exactly, and the correction that brings an allotment to them with as few moves as can be.
import { type Contender, cost, draw, slotSeed } from './rendezvous.js';

/** Shares of `slots` by weight, rounded by largest remainder; a tie goes to the earlier one. The sum is `slots`. */
export function slotQuotas(weights: readonly number[], slots: number): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0) return weights.map(() => 0);
  const quotas = weights.map((weight) => Math.floor((slots * weight) / total));
  const missing = slots - quotas.reduce((sum, quota) => sum + quota, 0);
  const byRemainder = weights
    .map((weight, index) => ({ index, remainder: (slots * weight) % total }))
    .sort((x, y) => y.remainder - x.remainder || x.index - y.index);
  for (const { index } of byRemainder.slice(0, missing)) quotas[index] = (quotas[index] ?? 0) + 1;
  return quotas;
}

/**
 * Moves slots in `owners` (slot → index into contenders) until every contender has its quota. Just the excess moves: a contender over
 * its quota gives up the slots that it wants least (its own highest cost: nobody else's coming or going changes that order); each
 * goes, in the order of slots, to whom it costs least among those still short.
 */
export function meetQuotas(
  owners: Uint16Array,
  contenders: readonly Contender[],
  quotas: readonly number[],
): void {
  const counts = new Array<number>(contenders.length).fill(0);
  for (const owner of owners) counts[owner] = (counts[owner] ?? 0) + 1;
  const excess = counts.map((count, i) => count - (quotas[i] ?? 0));
  const short = contenders
    .map((contender, i) => ({ contender, at: i, missing: -(excess[i] ?? 0) }))
    .filter((one) => one.missing > 0);
  for (const slot of slotsGivenUp(owners, contenders, excess)) {
    const seed = slotSeed(slot);
    let best = -1;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const [i, { contender, missing }] of short.entries()) {
      if (missing === 0) continue;
      const u = draw(contender.seed, seed);
      if (u * contender.inverseWeight >= bestCost) continue; // its cost is not below that
      const price = cost(u, contender.inverseWeight);
      if (price < bestCost) [best, bestCost] = [i, price];
    }
    const taker = short[best];
    if (taker === undefined) return;
    taker.missing--;
    owners[slot] = taker.at;
  }
}

function slotsGivenUp(
  owners: Uint16Array,
  contenders: readonly Contender[],
  excess: readonly number[],
): number[] {
  const held = new Map<number, { slot: number; price: number }[]>();
  for (const [slot, owner] of owners.entries()) {
    const contender = contenders[owner];
    if (contender === undefined || (excess[owner] ?? 0) <= 0) continue;
    const price = cost(draw(contender.seed, slotSeed(slot)), contender.inverseWeight);
    const list = held.get(owner);
    if (list === undefined) held.set(owner, [{ slot, price }]);
    else list.push({ slot, price });
  }
  const out: number[] = [];
  for (const [owner, list] of held) {
    list.sort((x, y) => y.price - x.price || x.slot - y.slot);
    for (const { slot } of list.slice(0, excess[owner])) out.push(slot);
  }
  return out.sort((x, y) => x - y);
}
