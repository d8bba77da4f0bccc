// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, OnFailure, OnNodeDown, SelectPolicy } from '@detour/contracts';
import { hasLevel } from '@detour/intent';
import { digestChains } from '@detour/tables';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { buildPathTable } from './chain-rows.js';
import type { NodeFacts } from './node-worths.js';
import { exampleText } from './testdata.js';

const facts = (scores: Record<string, number>, drained: readonly string[] = []): NodeFacts => ({
  scoreOf: (node) => scores[node] ?? null,
  otherZoneScoreOf: () => null,
  drained: (node) => drained.includes(node),
});
const THREE = ['', '', ''];
const weightsOf = (text: string, given: NodeFacts) =>
  buildPathTable(revisionOf(text), given).rows[0]?.paths.map(({ weight }) => weight);

describe('buildPathTable', () => {
  it("turns the intent's chain into numbers", () => {
    const chain =
      'onFailure: bypass, onNodeDown: keep, affinity: source, idleTimeout: { tcp: 10m, udp: 30s, other: 5s }';
    const revision = revisionOf(exampleText({ firewalls: ['', ''], chain }));
    const { rows, shortfalls } = buildPathTable(revision, facts({}));
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({
      number: revision.numbers.chains['inspect@red'],
      name: 'inspect',
      onFailure: OnFailure.BYPASS,
      onNodeDown: OnNodeDown.KEEP,
      affinity: AffinityKind.SOURCE,
      select: SelectPolicy.WEIGHTED,
      idleTcpMs: 600_000n,
      idleUdpMs: 30_000n,
      idleOtherMs: 5_000n,
      allStale: false,
    });
    expect(rows[0]?.paths.map(({ number, nodes }) => [number, nodes])).toEqual([
      [revision.numbers.paths['inspect@red:fw1'], [revision.numbers.nodes.fw1]],
      [revision.numbers.paths['inspect@red:fw2'], [revision.numbers.nodes.fw2]],
    ]);
    expect(shortfalls.size).toBe(0);
  });

  it.each([
    ['onFailure: drop', 0],
    ['mssClamp: auto', 1],
    ['mssClamp: 1360', 1360],
  ])('%s: the largest TCP segment is %i in its row', (chain, mss) => {
    const revision = revisionOf(exampleText({ firewalls: [''], chain }));
    expect(buildPathTable(revision, facts({})).rows[0]?.mss).toBe(mss);
  });

  it('weighs paths by score, and by declared capacity where none is published', () => {
    const text = exampleText({ firewalls: THREE });
    expect(weightsOf(text, facts({ fw1: 50, fw2: 100, fw3: 50 }))).toEqual([500, 1000, 500]);
    expect(weightsOf(text, facts({ fw1: 50, fw2: 25, fw3: 50 }))).toEqual([1000, 500, 1000]);
    expect(weightsOf(exampleText({ firewalls: ['capacity: 50', ''] }), facts({}))).toEqual([500, 1000]);
  });

  it('gives a stale node nothing while another is fresh; all stale: declared capacity as fallback', () => {
    const text = exampleText({ firewalls: ['capacity: 50', ''] });
    expect(weightsOf(text, facts({ fw1: 0, fw2: 80 }))).toEqual([0, 1000]);
    const [row] = buildPathTable(revisionOf(text), facts({ fw1: 0, fw2: 0 })).rows;
    expect(row?.allStale).toBe(true);
    expect(row?.paths.map(({ weight, fallbackWeight }) => [weight, fallbackWeight])).toEqual([
      [0, 500],
      [0, 1000],
    ]);
  });

  it('gives a drained node no new flow, not even as a fallback', () => {
    const [row] = buildPathTable(revisionOf(exampleText({ firewalls: THREE })), facts({}, ['fw2'])).rows;
    expect(row?.paths.map(({ weight, fallbackWeight }) => [weight, fallbackWeight])).toEqual([
      [1000, 1000],
      [0, 0],
      [1000, 1000],
    ]);
  });

  it('takes the declared priority as tier, whatever the scores', () => {
    const text = exampleText({ firewalls: ['priority: 100', 'priority: 50'], chain: 'select: priority' });
    const [row] = buildPathTable(revisionOf(text), facts({ fw1: 1, fw2: 99 })).rows;
    expect(row?.select).toBe(SelectPolicy.PRIORITY);
    expect(row?.paths.map(({ weight }) => weight)).toEqual([1000, 500]);
  });

  it('keeps neighbouring priorities apart, and takes 0 as a tier', () => {
    const firewalls = ['priority: 65535', 'priority: 65534', 'priority: 0'];
    const [row] = buildPathTable(
      revisionOf(exampleText({ firewalls, chain: 'select: priority' })),
      facts({}),
    ).rows;
    expect(row?.paths.map(({ weight }) => weight)).toEqual([1000, 667, 333]);
  });

  it('holds a node to its maxShare, whatever it scores', () => {
    const text = exampleText({ firewalls: ['maxShare: 40%', ''] });
    expect(weightsOf(text, facts({ fw1: 1e6, fw2: 100 }))).toEqual([667, 1000]);
    expect(weightsOf(text, facts({ fw1: 10, fw2: 100 }))).toEqual([100, 1000]);
  });

  describe('levels', () => {
    const GOLD = 'scoring: { default: { levels: { gold: 60 } } }';
    const goldRow = (firewalls: readonly string[], given: NodeFacts, more = GOLD) => {
      const revision = revisionOf(exampleText({ firewalls, level: 'gold', more }));
      const { rows } = buildPathTable(revision, given);
      const row = rows.find(({ name }) => name === 'inspect/gold');
      expect(row?.number).toBe(revision.numbers.chains['inspect/gold@red']);
      return { rows, row };
    };
    const below = (row: { paths: { belowLevel: number }[] } | undefined) =>
      row?.paths.map(({ belowLevel }) => belowLevel);

    it('a chain has a row of its own for flows of a level; nodes whose score reaches it come first', () => {
      const { rows, row } = goldRow(THREE, facts({ fw1: 60, fw2: 59.9, fw3: 80 }));
      expect(rows.map(({ name }) => name)).toEqual(['inspect', 'inspect/gold']);
      expect(below(rows[0])).toEqual([0, 0, 0]);
      expect(below(row)).toEqual([0, 1, 0]);
      const numbers = rows.flatMap(({ paths }) => paths.map(({ number }) => number));
      expect(new Set(numbers).size).toBe(6);
    });

    it('a stale node has no level, a cap takes none away, and a policy without the level asks nothing', () => {
      expect(below(goldRow(THREE, facts({ fw1: 0, fw2: 90, fw3: 90 })).row)).toEqual([1, 0, 0]);
      expect(below(goldRow(['maxShare: 1%', '', ''], facts({ fw1: 90, fw2: 90, fw3: 1 })).row)).toEqual([
        0, 0, 1,
      ]);
      const { scoring } = revisionOf(exampleText({ firewalls: THREE, more: GOLD })).intent;
      expect(hasLevel(scoring.default, 'gold', 59)).toBe(false);
      expect(hasLevel(scoring.default, 'silver', 0)).toBe(true);
    });

    it('nodes with the level are held to their caps among themselves', () => {
      const { row } = goldRow(['maxShare: 40%', '', ''], facts({ fw1: 900, fw2: 100, fw3: 1 }));
      expect(row?.paths.slice(0, 2).map(({ weight }) => weight)).toEqual([667, 1000]);
    });
  });

  it('weighs nodes of other zones by the score that is published for those, to gateways that have a zone', () => {
    const revision = revisionOf(exampleText({ firewalls: ['zone: a', 'zone: b', ''] }));
    const given = { ...facts({ fw1: 100, fw2: 100, fw3: 100 }), otherZoneScoreOf: () => 25 };
    const weights = (zone: string | null) =>
      buildPathTable(revision, given, zone).rows[0]?.paths.map(({ weight }) => weight);
    expect(weights(null)).toEqual([1000, 1000, 1000]);
    expect(weights('a')).toEqual([1000, 250, 1000]);
    expect(weights('b')).toEqual([250, 1000, 1000]);
    const same = { ...given, otherZoneScoreOf: () => null };
    expect(buildPathTable(revision, same, 'a').rows[0]?.paths.map(({ weight }) => weight)).toEqual([
      1000, 1000, 1000,
    ]);
  });

  it('is byte-identical for equal inputs', () => {
    const table = () =>
      buildPathTable(revisionOf(exampleText({ firewalls: THREE })), facts({ fw1: 33.3, fw2: 71 }));
    expect(Buffer.from(digestChains(table().rows))).toEqual(Buffer.from(digestChains(table().rows)));
  });

  it('does every kind of select, with no alarm', () => {
    const text = exampleText({ firewalls: [''], chain: 'select: round-robin' });
    const { rows, shortfalls } = buildPathTable(revisionOf(text), facts({}));
    expect(rows.map(({ select }) => select)).toEqual([SelectPolicy.ROUND_ROBIN]);
    expect([...shortfalls]).toEqual([]);
  });
});
