// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { leastMoves, misplaced, pinMoves, tableMoves, worstOver } from './accounting.js';

const PATHS = 5;
/** Slot → path number 1..5. */
const tables = fc
  .integer({ min: 1, max: 60 })
  .chain((slots) =>
    fc.tuple(
      ...[0, 1].map(() =>
        fc.array(fc.integer({ min: 1, max: PATHS }), { minLength: slots, maxLength: slots }),
      ),
    ),
  );
const countsOf = (slots: readonly number[]) =>
  Array.from({ length: PATHS }, (_, i) => slots.filter((path) => path === i + 1).length);

describe('leastMoves', () => {
  it('is what remains when every slot is kept that both tables can give the same path, one by one', () => {
    fc.assert(
      fc.property(tables, ([before = [], after = []]) => {
        const rest = [...after];
        for (const path of before) if (rest.includes(path)) rest.splice(rest.indexOf(path), 1);
        expect(leastMoves(countsOf(before), countsOf(after))).toBeCloseTo(rest.length / after.length, 12);
      }),
    );
  });

  it('does not depend on the unit of either side', () => {
    expect(leastMoves([1, 1], [30, 10])).toBeCloseTo(0.25, 12);
    expect(leastMoves([1, 1, 0], [0, 0, 7])).toBe(1);
    expect(leastMoves([0, 0], [1, 2])).toBe(0);
  });

  it('is a bound: no two tables differ in fewer slots than their shares do', () => {
    fc.assert(
      fc.property(tables, ([before = [], after = []]) => {
        const moved = tableMoves(Uint16Array.from(before), Uint16Array.from(after));
        expect(moved).toBeGreaterThanOrEqual(leastMoves(countsOf(before), countsOf(after)) - 1e-12);
        expect(moved * after.length).toBeCloseTo(after.filter((path, slot) => path !== before[slot]).length);
      }),
    );
  });
});

describe('worstOver and misplaced', () => {
  it('compare shares with ideals of whatever unit, and leave out who is due nothing', () => {
    expect(worstOver([50, 30, 20], [5, 3, 2])).toBeCloseTo(0, 12);
    expect(worstOver([55, 25, 20], [5, 3, 2])).toBeCloseTo(0.1, 12);
    expect(worstOver([60, 20, 20], [3, 1, 0])).toBeCloseTo(-0.2, 12);
    expect(misplaced([55, 25, 20], [5, 3, 2])).toBeCloseTo(0.05, 12);
    expect(worstOver([], [])).toBe(0);
  });
});

describe('pinMoves', () => {
  it('tells flows whose path was down from those that need not have moved', () => {
    const before = Uint16Array.of(1, 1, 2, 3, 3);
    const after = Uint16Array.of(2, 1, 2, 1, 3);
    expect(pinMoves(before, after, (path) => path === 1)).toEqual({ ofDown: 1, others: 1 });
    expect(pinMoves(before, before, () => true)).toEqual({ ofDown: 0, others: 0 });
  });
});
