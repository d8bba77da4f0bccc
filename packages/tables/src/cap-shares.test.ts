// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { capShares } from './cap-shares.js';

const node = (name: string, worth: number, maxShare = 1) => ({ name, worth, maxShare });

describe('capShares', () => {
  it('leaves worths alone where no cap is reached', () => {
    expect([...capShares([node('a', 10), node('b', 30, 0.8), node('c', 0)])]).toEqual([
      ['a', 10],
      ['b', 30],
      ['c', 0],
    ]);
  });

  it('gives what a capped node gives up to the others in proportion, also when that caps another', () => {
    const capped = capShares([node('a', 900, 0.5), node('b', 90, 0.3), node('c', 10)]);
    const total = [...capped.values()].reduce((x, y) => x + y, 0);
    expect([...capped.values()].map((worth) => Number((worth / total).toFixed(6)))).toEqual([0.5, 0.3, 0.2]);
  });

  it('takes caps as proportions where they cannot all hold', () => {
    expect([...capShares([node('a', 5, 0.4), node('b', 500, 0.2)]).values()]).toEqual([0.4, 0.2]);
    expect(capShares([node('a', 5, 0.4)]).get('a')).toBe(0.4);
  });

  it('never lets a share exceed its cap where the caps can hold', () => {
    const nodes = fc.array(
      fc.record({
        worth: fc.oneof(fc.constant(0), fc.double({ min: 1e-6, max: 1e9, noNaN: true })),
        maxShare: fc.double({ min: 0.01, max: 1, noNaN: true }),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(nodes, (given) => {
        const list = given.map((one, i) => node(`n${i}`, one.worth, one.maxShare));
        const live = list.filter(({ worth }) => worth > 0);
        const capped = capShares(list);
        const total = [...capped.values()].reduce((x, y) => x + y, 0);
        if (live.reduce((x, { maxShare }) => x + maxShare, 0) < 1) return;
        for (const { name, maxShare } of live)
          expect((capped.get(name) ?? 0) / total).toBeLessThanOrEqual(maxShare * (1 + 1e-6));
      }),
    );
  });
});
