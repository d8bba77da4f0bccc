// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { negLog1m } from './rendezvous.js';
import { buildSelection, MAX_SLOTS, type Member, slotCount } from './selection.js';
import { slotQuotas } from './slot-quotas.js';

const equal = (paths: number): Member[] =>
  Array.from({ length: paths }, (_, i) => ({ path: i + 1, weight: 100 }));
const without = (members: Member[], path: number) =>
  members.map((one) => (one.path === path ? { ...one, weight: 0 } : one));

function countSlots(slots: Uint16Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const path of slots) counts.set(path, (counts.get(path) ?? 0) + 1);
  return counts;
}

/** Slots that changed: those of the path that left, and others. */
function disruption(before: Uint16Array, after: Uint16Array, gone: number) {
  let own = 0;
  let others = 0;
  for (const [slot, path] of before.entries()) {
    if (path === after[slot]) continue;
    if (path === gone) own++;
    else others++;
  }
  return { own: own / before.length, others: others / before.length };
}

const members = fc
  .uniqueArray(fc.integer({ min: 1, max: 16383 }), { minLength: 1, maxLength: 40 })
  .chain((paths) =>
    fc
      .array(fc.integer({ min: 0, max: 1000 }), { minLength: paths.length, maxLength: paths.length })
      .map((weights) => paths.map((path, i) => ({ path, weight: weights[i] ?? 0 }))),
  );

describe('the number of slots', () => {
  it('is a prime, at least 100 a path, and capped at 65,537 above 655 paths', () => {
    const isPrime = (n: number) => {
      for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
      return n > 1;
    };
    for (let paths = 1; paths <= 1024; paths++) {
      const slots = slotCount(paths);
      expect(isPrime(slots), `${slots}`).toBe(true);
      if (paths <= 655) expect(slots).toBeGreaterThanOrEqual(100 * paths);
      else expect(slots).toBe(MAX_SLOTS);
    }
  });
});

describe('buildSelection', () => {
  it('gives each path exactly its share, rounded by largest remainder', () => {
    fc.assert(
      fc.property(members, fc.integer({ min: 1, max: 63 }), (list, chain) => {
        const slots = buildSelection(list, chain);
        const total = list.reduce((sum, { weight }) => sum + weight, 0);
        if (total === 0) {
          expect(slots).toHaveLength(0);
          return;
        }
        const counts = countSlots(slots);
        const sorted = [...list].sort((x, y) => x.path - y.path);
        const quotas = slotQuotas(sorted.map(({ weight }) => weight), slots.length); // biome-ignore format: one thought
        expect(sorted.map(({ path }) => counts.get(path) ?? 0)).toEqual(quotas);
        for (const { path, weight } of list) {
          expect(Math.abs((counts.get(path) ?? 0) - (slots.length * weight) / total)).toBeLessThan(1);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('does not depend on the order of members', () => {
    fc.assert(
      fc.property(members, (list) => {
        expect(buildSelection([...list].reverse(), 3)).toEqual(buildSelection(list, 3));
      }),
      { numRuns: 30 },
    );
  });

  it('keeps its number of slots, and so the place of every flow, when paths go down', () => {
    const members = equal(20).map((one) => (one.path > 10 ? { ...one, weight: 0 } : one));
    expect(buildSelection(members, 1)).toHaveLength(slotCount(20));
    expect(slotCount(20)).not.toBe(slotCount(10));
  });

  it('depends on ratios of weights alone', () => {
    const scaled = (k: number) => [3, 5, 8].map((weight, i) => ({ path: i + 1, weight: weight * k }));
    expect(countSlots(buildSelection(scaled(100), 1))).toEqual(countSlots(buildSelection(scaled(1), 1)));
  });

  it('makes these very bytes on every machine', () => {
    const list = [7, 300, 12, 45, 9001].map((path, i) => ({ path, weight: 10 * i + 1 }));
    const digest = createHash('sha256')
      .update(Buffer.from(buildSelection(list, 5).buffer))
      .digest('hex');
    expect(digest).toBe('d02c48dd854c85cb16071363ed0b17381c9d9354cf82eec1f0ea4916e57dc415');
  });

  it('differs from chain to chain', () => {
    const [x, y] = [buildSelection(equal(4), 1), buildSelection(equal(4), 2)];
    const same = x.filter((path, slot) => path === y[slot]).length / x.length;
    expect(same).toBeGreaterThan(0.2);
    expect(same).toBeLessThan(0.3);
  });

  it('is at most 1 % over the ideal for up to 100 paths', () => {
    for (const paths of [2, 3, 5, 10, 16, 17, 33, 50, 64, 99, 100]) {
      const slots = buildSelection(equal(paths), 9);
      const ideal = slots.length / paths;
      expect(Math.max(...countSlots(slots).values()) / ideal).toBeLessThanOrEqual(1.01);
    }
  });

  it('refuses garbage by name', () => {
    expect(() => buildSelection([{ path: 0, weight: 1 }], 1)).toThrow(/path 0/);
    expect(() => buildSelection([{ path: 1, weight: -1 }], 1)).toThrow(/weight -1 of path 1/);
    expect(() => buildSelection([{ path: 1, weight: Number.NaN }], 1)).toThrow(/weight NaN/);
    expect(() => buildSelection([...equal(2), { path: 2, weight: 1 }], 1)).toThrow(/path 2 occurs twice/);
  });
});

describe('disruption', () => {
  // what may move beside the leaver's own slots: the exact quotas' price, measured in README.md
  it.each([
    [2, 0.001],
    [3, 0.01],
    [10, 0.03],
    [50, 0.02],
    [100, 0.015],
  ])('of %i paths, one leaves: its share moves, and few other slots', (paths, bound) => {
    const before = buildSelection(equal(paths), 7);
    for (const gone of [1, Math.ceil(paths / 2), paths]) {
      const moved = disruption(before, buildSelection(without(equal(paths), gone), 7), gone);
      expect(moved.own).toBeCloseTo(1 / paths, 2);
      expect(moved.others).toBeLessThan(bound);
    }
  });

  it('one path more within a step of slots takes its share, and few other slots move', () => {
    const before = buildSelection(equal(9), 7);
    const after = buildSelection(equal(10), 7);
    expect(after).toHaveLength(before.length);
    const moved = before.filter((path, slot) => path !== after[slot]).length / before.length;
    expect(moved).toBeGreaterThanOrEqual(0.099);
    expect(moved).toBeLessThan(0.13);
  });
});

describe('negLog1m', () => {
  it('is -ln(1 - u) to nine digits and never below u', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (hash) => {
        const u = (hash + 0.5) * 2 ** -32;
        const want = -Math.log1p(-u);
        expect(Math.abs(negLog1m(u) / want - 1)).toBeLessThan(1e-9);
        expect(negLog1m(u)).toBeGreaterThanOrEqual(u);
      }),
      { numRuns: 2000 },
    );
  });
});
