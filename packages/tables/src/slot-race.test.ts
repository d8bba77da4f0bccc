// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cost, draw, slotSeed, toContender } from './rendezvous.js';
import { buildSelection } from './selection.js';
import { type Runner, SlotRace } from './slot-race.js';

const SLOTS = 211;

/** Everybody asked about every slot, with the whole logarithm. */
function winnersOf(chain: number, runners: readonly Runner[], slots: number): number[] {
  return Array.from({ length: slots }, (_, slot) => {
    const prices = runners.map(({ path, weight }) => {
      const { seed, inverseWeight } = toContender(chain, path, weight);
      return cost(draw(seed, slotSeed(slot)), inverseWeight);
    });
    return prices.indexOf(Math.min(...prices));
  });
}

const weight = fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 ** 31 - 1 }));
const field = fc
  .uniqueArray(fc.integer({ min: 1, max: 16_383 }), { minLength: 1, maxLength: 24 })
  .chain((paths) =>
    fc
      .array(weight, { minLength: paths.length, maxLength: paths.length })
      .map((weights) => paths.sort((x, y) => x - y).map((path, i) => ({ path, weight: weights[i] ?? 1 }))),
  );

describe('SlotRace', () => {
  it('finds the winner that asking everybody finds', () => {
    fc.assert(
      fc.property(field, fc.integer({ min: 1, max: 1_023 }), (runners, chain) => {
        expect([...new SlotRace(chain).run(runners, SLOTS).owners]).toEqual(winnersOf(chain, runners, SLOTS));
      }),
      { numRuns: 200 },
    );
  });

  it('after any history of weights, members and sizes it says what a new one says', () => {
    const step = fc.record({
      what: fc.constantFrom('weight', 'weights', 'leave', 'size'),
      at: fc.nat(),
      weight,
    });
    fc.assert(
      fc.property(field, fc.array(step, { minLength: 1, maxLength: 12 }), (start, steps) => {
        const race = new SlotRace(7);
        let runners: Runner[] = start;
        let slots = SLOTS;
        race.run(runners, slots);
        for (const { what, at, weight: to } of steps) {
          const index = at % runners.length;
          if (what === 'weight')
            runners = runners.map((one, i) => (i === index ? { ...one, weight: to } : one));
          else if (what === 'weights')
            runners = runners.map((one, i) => (i % 3 === at % 3 ? { ...one, weight: to } : one));
          else if (what === 'leave' && runners.length > 1) runners = runners.filter((_, i) => i !== index);
          else slots = SLOTS + (at % 50);
          const { owners } = race.run(runners, slots);
          expect(owners).toEqual(new SlotRace(7).run(runners, slots).owners);
          owners.fill(0); // the caller's own
        }
      }),
      { numRuns: 300 },
    );
  });

  it('a selection table made with a race that remembers is the one made without, through many changes of single weights', () => {
    const race = new SlotRace(3);
    let members = Array.from({ length: 64 }, (_, i) => ({ path: i + 1, weight: 100 + i }));
    for (let round = 0; round < 40; round++) {
      members = members.map((one) =>
        one.path === ((round * 7) % 64) + 1 ? { ...one, weight: (round * 37) % 250 } : one,
      );
      expect(buildSelection(members, 3, race)).toEqual(buildSelection(members, 3));
    }
  });
});
