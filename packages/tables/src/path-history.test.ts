// SPDX-License-Identifier: Apache-2.0
import { hashKeyFromHex } from '@detour/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HistoryPolicy, historySeed, PathHistory } from './path-history.js';
import type { Member } from './selection.js';

const key = hashKeyFromHex('00112233445566778899aabbccddeeff');
const membersOf = (weights: readonly number[]): Member[] =>
  weights.map((weight, i) => ({ path: 101 + i, weight }));

function choices(policy: HistoryPolicy, weights: readonly number[], count: number, seed = 1): number[] {
  const history = new PathHistory(seed);
  return Array.from({ length: count }, () => history.choose(policy, membersOf(weights)));
}

function countsOf(paths: readonly number[], all: readonly number[]): number[] {
  return all.map((path) => paths.filter((one) => one === path).length);
}

describe('round-robin', () => {
  it('PSEL-8 with k paths and n flows, counts differ by at most 1, whatever the weights', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 0, max: 300 }),
        (weights, flows) => {
          const paths = membersOf(weights).map(({ path }) => path);
          const counts = countsOf(choices('round-robin', weights, flows), paths);
          expect(counts.reduce((sum, count) => sum + count, 0)).toBe(flows);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        },
      ),
    );
  });
  it('what is given back is given to the next, so that flows with a pin do not count', () => {
    const history = new PathHistory(1);
    const next = () => history.choose('round-robin', membersOf([1, 1, 1]));
    expect([next(), next()]).toEqual([101, 102]);
    history.giveBack(101);
    expect([next(), next(), next()]).toEqual([101, 103, 101]);
  });
  it('a path that comes back is not made up for what it missed', () => {
    const history = new PathHistory(1);
    for (let i = 0; i < 20; i++) history.choose('round-robin', membersOf([1, 1, 0]));
    const after = Array.from({ length: 6 }, () => history.choose('round-robin', membersOf([1, 1, 1])));
    expect(countsOf(after, [101, 102, 103])).toEqual([2, 2, 2]);
  });
});

describe('random', () => {
  it('PSEL-5 the same seed gives the same sequence; another one another', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const once = choices('random', [5, 3, 2], 60, seed);
        expect(choices('random', [5, 3, 2], 60, seed)).toEqual(once);
        expect(choices('random', [5, 3, 2], 60, seed + 1)).not.toEqual(once);
      }),
    );
  });
  it('goes by weight', () => {
    const counts = countsOf(choices('random', [50, 30, 0, 20], 100_000), [101, 102, 103, 104]);
    for (const [i, share] of [0.5, 0.3, 0, 0.2].entries())
      expect(Math.abs((counts[i] ?? 0) / 100_000 - share)).toBeLessThan(0.006);
  });
  it('each chain and each gateway has a seed of its own, the same after every start', () => {
    const seeds = [
      historySeed(key, 'edge1', 1),
      historySeed(key, 'edge1', 2),
      historySeed(key, 'edge2', 1),
      historySeed(hashKeyFromHex('01112233445566778899aabbccddeeff'), 'edge1', 1),
    ];
    expect(new Set(seeds).size).toBe(4);
    expect(historySeed(key, 'edge1', 1)).toBe(seeds[0]);
  });
});

describe('least-flows', () => {
  it('goes by flows that there are, then evenly', () => {
    const history = new PathHistory(1);
    history.choose('least-flows', membersOf([1, 1, 1]));
    const end = history.beginCount();
    end(new Map(Object.entries({ 101: 5, 102: 3, 103: 4 }).map(([path, flows]) => [Number(path), flows])));
    const next = Array.from({ length: 6 }, () => history.choose('least-flows', membersOf([1, 1, 1])));
    expect(next).toEqual([102, 102, 103, 101, 102, 103]);
  });
  it('flows that begin while others are counted are not forgotten', () => {
    const history = new PathHistory(1);
    const end = history.beginCount();
    expect(history.choose('least-flows', membersOf([1, 1]))).toBe(101);
    end(new Map());
    expect(history.choose('least-flows', membersOf([1, 1]))).toBe(102);
  });
});

it.each(['round-robin', 'random', 'least-flows'] as const)(
  '%s: no path with a weight, no choice',
  (policy) => {
    expect(choices(policy, [0, 0], 3)).toEqual([0, 0, 0]);
  },
);
