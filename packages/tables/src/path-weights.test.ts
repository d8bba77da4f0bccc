// SPDX-License-Identifier: Apache-2.0
import { HealthState } from '@detour/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextNodeState } from './node-state.js';
import { type NodeWorth, weighPaths } from './path-weights.js';

/** Node n's worth from a list; paths 1, 2 … through the given nodes. */
function weigh(nodes: Partial<NodeWorth>[], paths: number[][], select: 'weighted' | 'priority' = 'weighted') {
  return weighPaths(
    paths.map((list, i) => ({ number: i + 1, nodes: list, skipped: 0, belowLevel: 0 })),
    { select, worthOf: (node) => ({ score: 0, capacity: 100, drained: false, ...nodes[node - 1] }) },
  ).map(({ weight, fallbackWeight }) => [weight, fallbackWeight]);
}

describe('weighPaths', () => {
  it('a path is worth its least node, in thousandths of the best', () => {
    expect(weigh([{ score: 100 }, { score: 50 }, { score: 25 }], [[1], [2], [1, 3]])).toEqual([
      [1000, 1000],
      [500, 500],
      [250, 250],
    ]);
  });
  it('a stale node has weight 0 and its capacity to fall back on', () => {
    expect(weigh([{ score: 80 }, { score: 0, capacity: 40 }], [[1], [2]])).toEqual([
      [1000, 1000],
      [0, 500],
    ]);
  });
  it('a drained node has neither', () => {
    expect(weigh([{ score: 80 }, { score: 80, drained: true }], [[1], [1, 2]])).toEqual([
      [1000, 1000],
      [0, 0],
    ]);
  });
  it('priority goes by declared capacity, not by load', () => {
    expect(
      weigh(
        [
          { score: 1, capacity: 100 },
          { score: 50, capacity: 50 },
        ],
        [[1], [2]],
        'priority',
      ),
    ).toEqual([
      [1000, 1000],
      [500, 500],
    ]);
  });
  it('garbage is worth nothing, and what is worth little is not worth nothing', () => {
    expect(
      weigh([{ score: Number.NaN, capacity: -1 }, { score: 1e9 }, { score: 1e-3 }], [[1], [2], [3]]),
    ).toEqual([
      [0, 0],
      [1000, 1000],
      [1, 1],
    ]);
  });
  it('weights are integers in 0..1000', () => {
    const score = fc.oneof(fc.double(), fc.double({ min: 0, max: 100 }));
    fc.assert(
      fc.property(fc.array(score, { minLength: 1, maxLength: 8 }), (scores) => {
        const nodes = scores.map((one) => ({ score: one }));
        for (const pair of weigh(
          nodes,
          scores.map((_, i) => [i + 1]),
        ))
          for (const weight of pair) {
            expect(Number.isInteger(weight)).toBe(true);
            expect(weight).toBeGreaterThanOrEqual(0);
            expect(weight).toBeLessThanOrEqual(1000);
          }
      }),
    );
  });
});

describe('nextNodeState', () => {
  it.each([
    ['unknown', HealthState.UP, 'keep', 'up'],
    ['up', HealthState.DOWN, 'keep', 'down'],
    ['up', HealthState.STALE, 'failover', 'up'],
    ['down', HealthState.STALE, 'failover', 'down'],
    ['up', HealthState.ADMIN_DOWN, 'keep', 'up'],
    ['up', HealthState.ADMIN_DOWN, 'failover', 'down'],
    ['unknown', HealthState.ADMIN_DOWN, 'keep', 'unknown'],
    ['up', HealthState.UNKNOWN, 'keep', 'unknown'],
  ] as const)('%s, then %i with %s: %s', (before, report, action, after) => {
    expect(nextNodeState(before, report, action)).toBe(after);
  });
});
