// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, ChainRow, OnFailure, SelectPolicy } from '@detour/contracts';
import {
  AFFINITIES,
  hashKeyFromHex,
  normaliseTuple,
  parseAddress,
  reverseTuple,
  type Tuple,
} from '@detour/core';
import { describe, expect, it } from 'vitest';
import { choosePath, expandChain } from './expand-chain.js';
import { heirsOf } from './heirs.js';
import type { NodeState } from './node-state.js';
import { validateSelection } from './validate-chains.js';

const secret = hashKeyFromHex('00112233445566778899aabbccddeeff');
const AFFINITY_KINDS = [
  AffinityKind.FIVE_TUPLE,
  AffinityKind.THREE_TUPLE,
  AffinityKind.TWO_TUPLE,
  AffinityKind.SOURCE,
];

/** Paths 101, 102 … through nodes 1, 2 …, one each. */
function chain(weights: number[], extra: Partial<ChainRow> = {}): ChainRow {
  return ChainRow.fromPartial({
    number: 1,
    name: 'inspect',
    onFailure: OnFailure.DROP,
    affinity: AffinityKind.FIVE_TUPLE,
    select: SelectPolicy.WEIGHTED,
    paths: weights.map((weight, i) => ({ number: 101 + i, nodes: [1 + i], weight, fallbackWeight: 500 })),
    ...extra,
  });
}
const states = (given: Record<number, NodeState>) => (node: number) => given[node] ?? 'up';
const weightsOf = (row: ChainRow, given: Record<number, NodeState> = {}) =>
  expandChain(row, states(given)).paths.map(({ weight }) => weight);

function flow(i: number): Tuple {
  const [src, dst] = [parseAddress(`10.1.${(i >> 8) & 255}.${i & 255}`), parseAddress('203.0.113.9')];
  if (!src || !dst) throw new Error('no address');
  return { vrf: 1, src, dst, sport: 1024 + (i % 60000), dport: 443, proto: 6 };
}

function shares(row: ChainRow, flows: number): number[] {
  const expanded = expandChain(row, () => 'up');
  const counts = new Map<number, number>();
  for (let i = 0; i < flows; i++) {
    const { key, norm } = normaliseTuple(flow(i));
    const path = choosePath(expanded, key, { initiatorIsB: norm === 1, secret }) ?? 0;
    counts.set(path, (counts.get(path) ?? 0) + 1);
  }
  return row.paths.map(({ number }) => (counts.get(number) ?? 0) / flows);
}

describe('shares of flows', () => {
  it('100,000 flows over weights 50/30/20 split so within 1 % absolute', () => {
    for (const [i, share] of shares(chain([50, 30, 20]), 100_000).entries())
      expect(Math.abs(share - ([0.5, 0.3, 0.2][i] ?? 0))).toBeLessThan(0.01);
  });
  it('40,000 flows over scores 1:2:1 split 25/50/25 within 1.5 % absolute', () => {
    for (const [i, share] of shares(chain([500, 1000, 500]), 40_000).entries())
      expect(Math.abs(share - ([0.25, 0.5, 0.25][i] ?? 0))).toBeLessThan(0.015);
  });
});

describe('expandChain', () => {
  it('a node that is down or unknown leaves the others their shares; only down counts as down', () => {
    const expanded = expandChain(chain([500, 300, 200]), states({ 2: 'down', 3: 'unknown' }));
    expect(expanded.paths.map(({ state, weight }) => [state, weight])).toEqual([
      ['up', 500],
      ['down', 0],
      ['unknown', 0],
    ]);
    expect(new Set(expanded.slots)).toEqual(new Set([101]));
  });

  it('a path is as well as its worst node', () => {
    const row = chain([10], {
      paths: [
        {
          number: 101,
          nodes: [1, 2],
          weight: 10,
          fallbackWeight: 10,
          drained: false,
          skipped: 0,
          hosts: 2,
          belowLevel: 0,
        },
      ],
    });
    expect(expandChain(row, states({ 1: 'unknown', 2: 'down' })).paths[0]?.state).toBe('down');
    expect(expandChain(row, states({ 1: 'unknown' })).paths[0]?.state).toBe('unknown');
  });

  it('declared capacity counts when nothing that is up has a weight, and only then', () => {
    expect(weightsOf(chain([1000, 0]))).toEqual([1000, 0]);
    const alone = expandChain(chain([1000, 0]), states({ 1: 'down' }));
    expect(alone.paths.map(({ weight }) => weight)).toEqual([0, 500]);
    expect(alone.allStale).toBe(true);
    expect(expandChain(chain([1000, 0]), () => 'up').allStale).toBe(false);
  });

  it('a drained path gets nothing, even as the last one', () => {
    const row = chain([1000, 0]);
    const drained = row.paths.map((path, i) =>
      i === 1 ? { ...path, fallbackWeight: 0, drained: true } : path,
    );
    const expanded = expandChain({ ...row, paths: drained }, states({ 1: 'down' }));
    expect(expanded.slots).toHaveLength(0);
    expect(expanded.allStale).toBe(false);
  });

  it('priority: the best tier that is up has all, evenly', () => {
    const row = chain([1000, 1000, 500], { select: SelectPolicy.PRIORITY });
    expect(weightsOf(row)).toEqual([1, 1, 0]);
    expect(weightsOf(row, { 1: 'down' })).toEqual([0, 1, 0]);
    expect(weightsOf(row, { 1: 'down', 2: 'unknown' })).toEqual([0, 0, 1]);
  });

  it('all down: no slots, and no path is chosen', () => {
    const expanded = expandChain(chain([1, 1]), () => 'down');
    const { key } = normaliseTuple(flow(1));
    expect(choosePath(expanded, key, { initiatorIsB: false, secret })).toBeNull();
  });

  it('one path fails: flows of the others stay, its own spread over them by their weights', () => {
    const [before, after] = [{}, { 2: 'down' } as const].map((given) =>
      expandChain(chain([50, 30, 20]), states(given)),
    );
    if (!before || !after) throw new Error('not expanded');
    const to = new Map<number, number>();
    let moved = 0;
    let stayed = 0;
    for (let i = 0; i < 50_000; i++) {
      const { key, norm } = normaliseTuple(flow(i));
      const how = { initiatorIsB: norm === 1, secret };
      const [was, is] = [choosePath(before, key, how), choosePath(after, key, how)];
      if (was === 102) to.set(is ?? 0, (to.get(is ?? 0) ?? 0) + 1);
      else if (was === is) stayed++;
      else moved++;
    }
    expect((to.get(101) ?? 0) / (to.get(103) ?? 1)).toBeGreaterThan(2.2);
    expect((to.get(101) ?? 0) / (to.get(103) ?? 1)).toBeLessThan(2.8);
    expect(moved / (moved + stayed)).toBeLessThan(0.03); // of new flows; established ones are pinned
  });

  it('is the same whatever the order of rows, and its fingerprint tells changes', () => {
    const row = chain([5, 3, 2]);
    const [x, y] = [row, { ...row, paths: [...row.paths].reverse() }].map((one) =>
      expandChain(one, () => 'up'),
    );
    expect(x).toEqual(y);
    expect(expandChain(row, states({ 3: 'unknown' })).fingerprint).not.toBe(x?.fingerprint);
    // states alone are content: nothing is chosen in either, yet pinned flows fare differently
    const [down, unknown] = (['down', 'unknown'] as const).map((state) => expandChain(row, () => state));
    expect(down?.fingerprint).not.toBe(unknown?.fingerprint);
  });

  it('passes the last look before publishing', () => {
    const { slots, paths } = expandChain(chain([5, 3, 2]), states({ 3: 'down' }));
    expect(validateSelection(slots, paths)).toEqual({ ok: true });
  });
});

describe('choosePath', () => {
  it('both directions choose one path, whichever side speaks first, for every affinity', () => {
    for (const [i, affinity] of AFFINITY_KINDS.entries()) {
      const expanded = expandChain(chain([1, 1, 1, 1, 1], { affinity }), () => 'up');
      expect(expanded.affinity).toBe(AFFINITIES[i]);
      for (let n = 0; n < 200; n++) {
        const forward = normaliseTuple(flow(n));
        const reverse = normaliseTuple(reverseTuple(flow(n)));
        const there = choosePath(expanded, forward.key, { initiatorIsB: forward.norm === 1, secret });
        const back = choosePath(expanded, reverse.key, { initiatorIsB: reverse.norm === 0, secret });
        expect(back).toBe(there);
      }
    }
  });
});

describe('policies', () => {
  const tiers = (keepsTier: boolean) => chain([1000, 500, 500], { select: SelectPolicy.PRIORITY, keepsTier });
  const after = (row: ChainRow, inUse: number[], given: Record<number, NodeState> = {}) =>
    expandChain(row, states(given), { inUse: new Set(inUse) }).paths.map(({ weight }) => weight);

  it('LB-4 priority goes to the best tier that is up; with preempt: false it stays with the one in use while that is up', () => {
    for (const keepsTier of [true, false]) {
      expect(after(tiers(keepsTier), [])).toEqual([1, 0, 0]);
      expect(after(tiers(keepsTier), [101], { 1: 'down' })).toEqual([0, 1, 1]);
      expect(after(tiers(keepsTier), [102, 103], { 2: 'down', 3: 'down' })).toEqual([1, 0, 0]);
    }
    expect(after(tiers(false), [102, 103])).toEqual([1, 0, 0]);
    expect(after(tiers(true), [102, 103])).toEqual([0, 1, 1]);
    expect(after(tiers(true), [102], { 2: 'down' })).toEqual([1, 0, 0]);
  });

  it('PSEL-7 local takes the paths over the fewest hosts that are up, by weight', () => {
    const row = chain([100, 300, 500], { select: SelectPolicy.LOCAL });
    const local = { ...row, paths: row.paths.map((path, i) => ({ ...path, hosts: [1, 1, 3][i] ?? 0 })) };
    expect(weightsOf(local)).toEqual([100, 300, 0]);
    expect(weightsOf(local, { 1: 'down' })).toEqual([0, 300, 0]);
    expect(weightsOf(local, { 1: 'down', 2: 'down' })).toEqual([0, 0, 500]);
    expect(weightsOf(local, { 1: 'down', 2: 'down', 3: 'down' })).toEqual([0, 0, 0]);
  });

  it('slots of a chain whose history decides are for flows that leave a dead path', () => {
    for (const select of [SelectPolicy.ROUND_ROBIN, SelectPolicy.LEAST_FLOWS])
      expect(weightsOf(chain([100, 300, 0], { select }))).toEqual([1, 1, 0]);
    expect(weightsOf(chain([100, 300, 0], { select: SelectPolicy.RANDOM }))).toEqual([100, 300, 0]);
  });
});

describe('optional hops', () => {
  /** Paths 1: {1, 3}, 2: {2, 3}, and without the optional 3, 3: {1}, 4: {2}. */
  const optional = (worth: Partial<ChainRow['paths'][number]> = {}) =>
    chain([], {
      paths: [[1, 3], [2, 3], [1], [2]].map((nodes, i) => ({
        ...{ number: i + 1, nodes, weight: 100 * (i + 1), fallbackWeight: 500, drained: false, hosts: 1 },
        skipped: nodes.length === 1 ? 1 : 0,
        belowLevel: 0,
        ...(nodes.length === 2 && worth),
      })),
    });

  it('are left out only where no path that has them is up', () => {
    expect(weightsOf(optional())).toEqual([100, 200, 0, 0]);
    expect(weightsOf(optional(), { 1: 'down' })).toEqual([0, 200, 0, 0]);
    expect(weightsOf(optional(), { 3: 'down' })).toEqual([0, 0, 300, 400]);
    expect(weightsOf(optional(), { 3: 'unknown' })).toEqual([0, 0, 300, 400]);
    expect(weightsOf(optional(), { 1: 'down', 2: 'down', 3: 'down' })).toEqual([0, 0, 0, 0]);
  });

  it('are not left out because their scores are stale, but because they are drained', () => {
    const stale = expandChain(optional({ weight: 0 }), () => 'up');
    expect(stale.paths.map(({ weight }) => weight)).toEqual([500, 500, 0, 0]);
    expect(stale.allStale).toBe(true);
    const drained = { weight: 0, fallbackWeight: 0, drained: true };
    expect(weightsOf(optional(drained))).toEqual([0, 0, 300, 400]);
  });

  it('leave their flows to the path that has the other nodes', () => {
    const expand = (given: Record<number, NodeState>) => {
      const { paths } = expandChain(optional(), states(given));
      return Object.fromEntries(heirsOf(1, paths));
    };
    expect(expand({})).toEqual({});
    expect(expand({ 3: 'down' })).toEqual({ 1: 3, 2: 4 });
    expect(expand({ 1: 'down' })).toEqual({ 1: 2 }); // node 3 goes on
    expect(expand({ 1: 'down', 3: 'down' })).toEqual({ 2: 4 }); // nothing of path 1 is left: the hash
  });
});

describe('levels', () => {
  /** Firewalls 1 and 2, of which 1 has the level; IDS 11 and 12, of which 12 has it. The last path leaves out the IDS. */
  const levelled = chain([], {
    paths: [
      [[1, 11], 1],
      [[1, 12], 0],
      [[2, 11], 2],
      [[2, 12], 1],
      [[1], 0],
    ].map(([nodes, belowLevel], i) => ({
      ...{
        number: i + 1,
        nodes: nodes as number[],
        weight: 100,
        fallbackWeight: 100,
        drained: false,
        hosts: 1,
      },
      ...{ skipped: i === 4 ? 1 : 0, belowLevel: belowLevel as number },
    })),
  });

  it('a node without the level takes flows only while no node of its service that has it is up', () => {
    expect(weightsOf(levelled)).toEqual([0, 100, 0, 0, 0]);
    expect(weightsOf(levelled, { 1: 'down' })).toEqual([0, 0, 0, 100, 0]);
    expect(weightsOf(levelled, { 12: 'down' })).toEqual([100, 0, 0, 0, 0]);
    expect(weightsOf(levelled, { 1: 'down', 12: 'down' })).toEqual([0, 0, 100, 0, 0]);
  });

  it('is no reason to leave out a hop', () => {
    expect(weightsOf(levelled, { 12: 'unknown' })).toEqual([100, 0, 0, 0, 0]);
    expect(weightsOf(levelled, { 11: 'down', 12: 'down' })).toEqual([0, 0, 0, 0, 100]);
  });
});

describe('heirsOf', () => {
  it('keeps as many nodes as it can, and spreads by weight what one node leaves', () => {
    // Firewalls 1..100, each with one of three IDS, of weights 100, 100 and 200.
    const paths = Array.from({ length: 100 }, (_, f) => f + 1).flatMap((firewall) =>
      [201, 202, 203].map((ids) => ({
        number: firewall * 10 + (ids - 200),
        nodes: [firewall, ids],
        weight: ids === 203 ? 200 : 100,
        fallbackWeight: 1,
        drained: false,
        skipped: 0,
        belowLevel: 0,
        hosts: 1,
      })),
    );
    const { paths: expanded } = expandChain(chain([], { paths }), states({ 201: 'down' }));
    const heirs = heirsOf(1, expanded);
    expect(heirs.size).toBe(100);
    for (const [dead, heir] of heirs) expect(Math.floor(heir / 10)).toBe(Math.floor(dead / 10)); // the same firewall
    const toHeavy = [...heirs.values()].filter((heir) => heir % 10 === 3).length;
    expect(toHeavy).toBeGreaterThan(50);
    expect(toHeavy).toBeLessThan(83);
    expect(heirsOf(1, expanded)).toEqual(heirs);
  });

  it('a path whose nodes are in no other has none', () => {
    const { paths } = expandChain(chain([10, 10, 10]), states({ 1: 'down' }));
    expect(heirsOf(1, paths).size).toBe(0);
  });
});
