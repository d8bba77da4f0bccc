// SPDX-License-Identifier: Apache-2.0
// Quotas: how many slots each path has exactly, and the correction that brings an allotment to them with as few moves as can be.
import { Fault } from '@detour/core';
import type { RaceResult } from './slot-race.js';
import { inverseStride, priceAt, rankOf, type Walk } from './slot-walk.js';

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
 * Moves slots in `owners` until every walk has its quota. Just the excess moves: a walk over its quota gives up the slots that it wants
 * least (its own highest prices: nobody else's coming or going changes that order); each goes to whom it costs least among those still short.
 * Where more of them want to go to one than are missing there, the cheapest go, and the others look again.
 */
export function meetQuotas(
  { owners, prices }: RaceResult,
  walks: readonly Walk[],
  quotas: readonly number[],
): void {
  const missing = [...quotas];
  for (const owner of owners) missing[owner] = (missing[owner] ?? 0) - 1;
  let homeless = slotsGivenUp(owners, prices, missing);
  let bidders = toBidders(walks, missing, owners.length);
  while (homeless.length > 0) {
    const bids = homeless.map((slot) => cheapestBid(slot, bidders, owners.length));
    bids.sort((x, y) => x.price - y.price || x.slot - y.slot);
    homeless = [];
    for (const { slot, bidder } of bids) {
      if (bidder.missing === 0) homeless.push(slot);
      else {
        bidder.missing--;
        owners[slot] = bidder.index;
      }
    }
    bidders = bidders.filter((one) => one.missing > 0);
  }
}

/** Of each walk over its quota the dearest, as many as are too many. */
function slotsGivenUp(owners: Uint16Array, prices: Float64Array, missing: readonly number[]): number[] {
  const held = new Map<number, number[]>();
  for (const [slot, owner] of owners.entries()) {
    if ((missing[owner] ?? 0) >= 0) continue;
    const list = held.get(owner);
    if (list === undefined) held.set(owner, [slot]);
    else list.push(slot);
  }
  const priceOf = (slot: number): number => prices[slot] ?? 0;
  return [...held].flatMap(([owner, list]) =>
    list.sort((x, y) => priceOf(y) - priceOf(x) || x - y).slice(0, -(missing[owner] ?? 0)),
  );
}

/** A walk that is short, with what telling its price for any slot takes. */
interface Bidder {
  readonly index: number;
  readonly first: number;
  readonly inverse: number;
  readonly lead: number;
  readonly inverseWeight: number;
  missing: number;
}

function toBidders(walks: readonly Walk[], missing: readonly number[], slots: number): Bidder[] {
  return walks.flatMap((walk, index) => {
    const { first, lead, weight } = walk;
    const short = missing[index] ?? 0;
    if (short <= 0) return [];
    const inverse = inverseStride(walk, slots);
    return [{ index, first, inverse, lead: lead / slots, inverseWeight: 1 / weight, missing: short }];
  });
}

interface Bid {
  readonly slot: number;
  readonly bidder: Bidder;
  readonly price: number;
}

/** Who pays least; the earlier one of two. @throws Fault 'internal' without bidders: what is given up is what is missing. */
function cheapestBid(slot: number, bidders: readonly Bidder[], slots: number): Bid {
  let best: Bidder | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const bidder of bidders) {
    const rank = rankOf(slot, bidder.first, bidder.inverse, slots);
    if ((rank / slots) * bidder.inverseWeight >= least) continue; // its price is not below that
    const price = (priceAt(rank, slots) + bidder.lead) * bidder.inverseWeight;
    if (price < least) [best, least] = [bidder, price];
  }
  if (best === undefined) throw new Fault('internal', `slot ${slot} is given up and nobody is short of one`);
  return { slot, bidder: best, price: least };
}
