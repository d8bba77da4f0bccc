// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, OnFailure, OnNodeDown, SelectPolicy } from '@detour/contracts';
import { digestChains } from '@detour/tables';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { buildPathTable, type NodeFacts } from './chain-rows.js';
import { exampleText } from './testdata.js';

const facts = (scores: Record<string, number>, drained: readonly string[] = []): NodeFacts => ({
  scoreOf: (node) => scores[node] ?? null,
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
