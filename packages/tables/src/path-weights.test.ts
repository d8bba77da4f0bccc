// SPDX-License-Identifier: Apache-2.0
import { HealthState } from '@detour/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillPaths } from './fill-paths.js';
import { nextNodeState } from './node-state.js';
import { type NodeWorth, weighPaths } from './path-weights.js';

/** Node n's worth from a list; paths 1, 2 … through the given nodes. */
function weigh(nodes: Partial<NodeWorth>[], paths: number[][], select: 'weighted' | 'priority' = 'weighted') {
  return weighPaths(
    paths.map((list, i) => ({ number: i + 1, nodes: list, skipped: 0, belowLevel: 0, hosts: list.length })),
    { select, worthOf: (node) => ({ score: 0, capacity: 100, drained: false, ...nodes[node - 1] }) },
  ).map(({ weight, fallbackWeight }) => [weight, fallbackWeight]);
}

describe('weighPaths', () => {
  it('a path of one node is worth its score, in thousandths of the best', () => {
    expect(weigh([{ score: 100 }, { score: 50 }, { score: 25 }], [[1], [2], [3]])).toEqual([
      [1000, 1000],
      [500, 500],
      [250, 250],
    ]);
  });
  it('PSEL-10 a node that two paths share is counted once, whichever hop it is', () => {
    const paths = [
      [1, 3],
      [1, 4],
      [2, 5],
    ];
    const worth = Array(5).fill({ score: 100 });
    const expected = [500, 500, 1000].map((weight) => [weight, weight]);
    expect(weigh(worth, paths)).toEqual(expected);
    expect(
      weigh(
        worth,
        paths.map(([first = 0, second = 0]) => [second, first]),
      ),
    ).toEqual(expected);
  });
  it('a node that cannot carry its share leaves the rest to others', () => {
    const nodes = [{ score: 100 }, { score: 100 }, { score: 100 }, { score: 100 }, { score: 40 }];
    expect(
      weigh(nodes, [
        [1, 3],
        [1, 4],
        [2, 5],
      ]).map(([weight]) => weight),
    ).toEqual([1000, 1000, 800]);
  });
  it('paths that leave out more optional hops do not count against those that leave out fewer', () => {
    const rows = weighPaths(
      [
        { number: 1, nodes: [1, 2], skipped: 0, belowLevel: 0, hosts: 2 },
        { number: 2, nodes: [1, 3], skipped: 0, belowLevel: 0, hosts: 2 },
        { number: 3, nodes: [1], skipped: 1, belowLevel: 0, hosts: 1 },
      ],
      { select: 'weighted', worthOf: () => ({ score: 50, capacity: 100, drained: false }) },
    );
    expect(rows.map(({ weight }) => weight)).toEqual([1000, 1000, 1000]);
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

/** Worths of nodes 1 to n by hop, and some of the paths through one node of each hop. */
const pathSets = fc
  .array(fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 3,
  })
  .chain((hops) => {
    let number = 0;
    const numbered = hops.map((worths) => worths.map((worth) => ({ node: ++number, worth })));
    const product = numbered.reduce<number[][]>(
      (paths, nodes) => paths.flatMap((path) => nodes.map(({ node }) => [...path, node])),
      [[]],
    );
    return fc.record({
      hops: fc.constant(numbered),
      all: fc.constant(product),
      some: fc.subarray(product, { minLength: 1 }),
    });
  });

const STEP = 0.05;

describe('fillPaths', () => {
  it('agrees with filling in small steps, for any set of paths', () => {
    fc.assert(
      fc.property(pathSets, ({ hops, some }) => {
        const worth = new Map(hops.flat().map((one) => [one.node, one.worth]));
        const worthOf = (node: number) => worth.get(node) ?? 0;
        const paths = some.map((nodes) => ({
          nodes,
          pace: nodes.reduce((all, node) => all * worthOf(node), 1),
        }));
        const loadOf = (values: readonly number[], node: number) =>
          paths.reduce((sum, { nodes }, i) => sum + (nodes.includes(node) ? (values[i] ?? 0) : 0), 0);
        const filled = fillPaths(paths, worthOf);
        for (const node of worth.keys())
          expect(loadOf(filled, node)).toBeLessThanOrEqual(worthOf(node) * (1 + 1e-6));
        for (const [i, { nodes }] of paths.entries()) {
          const full = nodes.filter((node) => loadOf(filled, node) >= worthOf(node) * (1 - 1e-6));
          // At a full node of its own no path has more for its pace: nobody could have more by taking from who has less
          const relative = (at: number) => (filled[at] ?? 0) / (paths[at]?.pace ?? 1);
          const isBottleneck = (node: number) =>
            paths.every((path, at) => !path.nodes.includes(node) || relative(at) <= relative(i) * (1 + 1e-6));
          expect(full.some(isBottleneck)).toBe(true);
        }
        expect(filled).toEqual(fillBySteps(paths, worthOf).map((value) => expect.closeTo(value, 0)));
      }),
      { numRuns: 100 },
    );
  });
  it('where every node of a hop meets every node of the next, each has exactly its share of its service', () => {
    fc.assert(
      fc.property(pathSets, ({ hops, all }) => {
        const worth = new Map(hops.flat().map((one) => [one.node, one.worth]));
        const worthOf = (node: number) => worth.get(node) ?? 0;
        const paces = all.map((nodes) => nodes.reduce((product, node) => product * worthOf(node), 1));
        const filled = fillPaths(
          all.map((nodes, i) => ({ nodes, pace: paces[i] ?? 0 })),
          worthOf,
        );
        const total = filled.reduce((sum, value) => sum + value, 0);
        for (const nodes of hops) {
          const sum = nodes.reduce((worths, one) => worths + one.worth, 0);
          for (const { node, worth: own } of nodes) {
            const load = all.reduce((x, path, i) => x + (path.includes(node) ? (filled[i] ?? 0) : 0), 0);
            expect(load / total).toBeCloseTo(own / sum, 6);
          }
        }
      }),
    );
  });
});

/** All paths grow a little at a time, each while its nodes have room: what fillPaths does in one go. */
function fillBySteps(
  paths: readonly { readonly nodes: readonly number[]; readonly pace: number }[],
  worthOf: (node: number) => number,
): number[] {
  const values = paths.map(() => 0);
  const loadOf = (node: number) =>
    paths.reduce((sum, { nodes }, i) => sum + (nodes.includes(node) ? (values[i] ?? 0) : 0), 0);
  for (;;) {
    const open = [...paths.entries()].filter(([, { nodes }]) =>
      nodes.every((node) => loadOf(node) < worthOf(node)),
    );
    if (open.length === 0) return values;
    const most = Math.max(...open.map(([, { pace }]) => pace));
    for (const [i, { pace }] of open) values[i] = (values[i] ?? 0) + (STEP * pace) / most;
  }
}

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
