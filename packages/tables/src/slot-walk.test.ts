// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inverseStride, priceAt, rankOf, toWalk } from './slot-walk.js';

const COUNTS = [1_601, 3_203, 6_421, 12_809, 25_601, 51_203, 65_537];
const chain = fc.integer({ min: 1, max: 1_023 });
const path = fc.integer({ min: 1, max: 16_383 });
const slots = fc.constantFrom(...COUNTS);

describe('a walk', () => {
  it('meets every slot once, and can tell as how manieth', () => {
    fc.assert(
      fc.property(chain, path, slots, (ofChain, ofPath, count) => {
        const walk = toWalk(ofChain, ofPath, 1, count);
        const inverse = inverseStride(walk, count);
        const met = new Uint8Array(count);
        const told = new Int32Array(count);
        for (let rank = 0, slot = walk.first; rank < count; rank++) {
          met[slot] = 1;
          told[rank] = rankOf(slot, walk.first, inverse, count) - rank;
          slot = (slot + walk.stride) % count;
        }
        expect(met.every((times) => times === 1)).toBe(true);
        expect(told.every((error) => error === 0)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('begins somewhere else in each chain, and each path somewhere else in a chain', () => {
    const firsts = (of: (i: number) => number) =>
      new Set(Array.from({ length: 1_000 }, (_, i) => of(i + 1))).size;
    expect(firsts((i) => toWalk(i, 1, 1, 65_537).first)).toBeGreaterThan(980); // by chance alone: 992
    expect(firsts((i) => toWalk(1, i, 1, 65_537).first)).toBeGreaterThan(980);
    expect(firsts((i) => toWalk(1, i, 1, 65_537).stride)).toBeGreaterThan(980);
  });

  it('wants each slot less than the one before, whatever its lead, and no less than rank / slots says', () => {
    for (const count of COUNTS) {
      const prices = Array.from({ length: count }, (_, rank) => priceAt(rank, count));
      const wrong = prices.filter((price, rank) => {
        const next = prices[rank + 1] ?? Number.POSITIVE_INFINITY;
        return price < rank / count || price + 1 / count > next; // a lead is below 1
      });
      expect(wrong).toEqual([]);
    }
  });
});
