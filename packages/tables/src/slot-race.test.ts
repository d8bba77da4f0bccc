// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { raceSlots } from './slot-race.js';
import { inverseStride, priceAt, rankOf, toWalk, type Walk } from './slot-walk.js';

const SLOTS = 211;
const weight = fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 ** 31 - 1 }));
const runners = fc
  .uniqueArray(fc.integer({ min: 1, max: 16_383 }), { minLength: 1, maxLength: 24 })
  .chain((paths) =>
    fc
      .array(weight, { minLength: paths.length, maxLength: paths.length })
      .map((weights) => paths.sort((x, y) => x - y).map((path, i) => ({ path, weight: weights[i] ?? 1 }))),
  );
const toWalks = (
  list: readonly { readonly path: number; readonly weight: number }[],
  chain: number,
  slots = SLOTS,
) => list.map(({ path, weight: worth }) => toWalk(chain, path, worth, slots));

/** Everybody asked about every slot. */
function askAll(walks: readonly Walk[], slots: number): { owners: number[]; prices: number[] } {
  const inverses = walks.map((walk) => inverseStride(walk, slots));
  const asked = Array.from({ length: slots }, (_, slot) =>
    walks.map((walk, i) => {
      const rank = rankOf(slot, walk.first, inverses[i] ?? 0, slots);
      return (priceAt(rank, slots) + walk.lead / slots) * (1 / walk.weight);
    }),
  );
  const prices = asked.map((each) => Math.min(...each));
  return { prices, owners: asked.map((each, slot) => each.indexOf(prices[slot] ?? Number.NaN)) };
}

describe('raceSlots', () => {
  it('finds the winners, and what they pay, that asking everybody finds', () => {
    fc.assert(
      fc.property(runners, fc.integer({ min: 1, max: 1_023 }), (list, chain) => {
        const walks = toWalks(list, chain);
        const { owners, prices } = raceSlots(walks, SLOTS);
        const want = askAll(walks, SLOTS);
        const wrong = want.owners.filter(
          (owner, slot) => owner !== owners[slot] || want.prices[slot] !== prices[slot],
        );
        expect(wrong).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('gives a path that comes slots of others, and takes nothing from one for another', () => {
    fc.assert(
      fc.property(runners, fc.nat(), (list, at) => {
        fc.pre(list.length > 1);
        const comes = at % list.length;
        const rest = list.filter((_, i) => i !== comes);
        const before = raceSlots(toWalks(rest, 3), SLOTS).owners;
        const after = raceSlots(toWalks(list, 3), SLOTS).owners;
        for (const [slot, owner] of after.entries())
          if (owner !== comes) expect(list[owner]?.path).toBe(rest[before[slot] ?? -1]?.path);
      }),
      { numRuns: 200 },
    );
  });

  it('gives to each in the proportion of weights, within what chance does', () => {
    const slots = 65_537;
    const list = [1, 2, 3, 4, 10].map((worth, i) => ({ path: i + 1, weight: worth }));
    const total = list.reduce((sum, one) => sum + one.weight, 0);
    for (const chain of [1, 2, 3, 4]) {
      const counts = list.map(() => 0);
      for (const owner of raceSlots(toWalks(list, chain, slots), slots).owners)
        counts[owner] = (counts[owner] ?? 0) + 1;
      for (const [i, one] of list.entries()) {
        const ideal = (slots * one.weight) / total;
        expect(Math.abs((counts[i] ?? 0) - ideal)).toBeLessThan(5 * Math.sqrt(ideal));
      }
    }
  });
});
