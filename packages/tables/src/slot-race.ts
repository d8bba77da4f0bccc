// SPDX-License-Identifier: Apache-2.0
// Who wins each slot of a chain before quotas are met: the walk with the least price for it, the earlier one of two with the same. Nobody is
// asked about every slot: walks go on, all of them up to one price at a time, until each slot has been met. What a walk has not met by
// then costs it more than anybody who has.
import { priceAt, type Walk } from './slot-walk.js';

export interface RaceResult {
  /** Slot → index into the walks. The caller's own. */
  readonly owners: Uint16Array;
  /** What the slot costs its owner. */
  readonly prices: Float64Array;
}

/** Prices in units of 1 / (sum of weights): about exp(-x) of all slots were not met up to x. */
const FIRST_REACH = 4;
const NEXT_REACH = 2;

/** `walks`: in the order of their path numbers; at least one. */
export function raceSlots(walks: readonly Walk[], slots: number): RaceResult {
  const owners = new Uint16Array(slots);
  const prices = new Float64Array(slots).fill(Number.POSITIVE_INFINITY);
  const walkers = walks.map((walk, index) => new Walker(walk, index, slots));
  const total = walks.reduce((sum, { weight }) => sum + weight, 0);
  const heaviest = walks.reduce((most, { weight }) => Math.max(most, weight), 0);
  const wishes = new Wishes(slots);
  let missing = slots;
  for (let reach = FIRST_REACH; missing > 0; reach += NEXT_REACH) {
    const dearest = reach / total;
    wishes.reach(dearest * heaviest);
    for (const walker of walkers) missing -= walker.go(dearest, wishes.known, owners, prices);
  }
  return { owners, prices };
}

/** priceAt by rank, as far as walks have come. */
class Wishes {
  readonly known: Float64Array;
  private count = 0;

  constructor(private readonly slots: number) {
    this.known = new Float64Array(slots).fill(Number.POSITIVE_INFINITY);
  }

  /** All that are not above `most`. */
  reach(most: number): void {
    while (this.count < this.slots && (this.count === 0 || (this.known[this.count - 1] ?? 0) <= most)) {
      this.known[this.count] = priceAt(this.count, this.slots);
      this.count++;
    }
  }
}

class Walker {
  private rank = 0;
  private slot: number;
  private readonly stride: number;
  private readonly lead: number;
  private readonly inverseWeight: number;

  constructor(
    walk: Walk,
    private readonly index: number,
    private readonly slots: number,
  ) {
    this.slot = walk.first;
    this.stride = walk.stride;
    this.lead = walk.lead / slots;
    this.inverseWeight = 1 / walk.weight;
  }

  /** Takes what it wants up to a price from all who want it less. Returns how many slots nobody had met. */
  go(dearest: number, wishes: Float64Array, owners: Uint16Array, prices: Float64Array): number {
    const { index, slots, stride, lead, inverseWeight } = this;
    let { rank, slot } = this;
    let met = 0;
    for (; rank < slots; rank++) {
      const price = ((wishes[rank] ?? 0) + lead) * inverseWeight;
      if (price > dearest) break;
      const before = prices[slot] ?? 0;
      if (price < before) {
        if (before === Number.POSITIVE_INFINITY) met++;
        prices[slot] = price;
        owners[slot] = index;
      }
      slot += stride;
      if (slot >= slots) slot -= slots;
    }
    this.rank = rank;
    this.slot = slot;
    return met;
  }
}
