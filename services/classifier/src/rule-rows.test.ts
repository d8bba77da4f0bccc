// SPDX-License-Identifier: Apache-2.0
import { RuleAction } from '@detour/contracts';
import { formatPrefix } from '@detour/core';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { buildRuleRows } from './rule-rows.js';
import { exampleText } from './testdata.js';

const WEB =
  '{ name: web-out, priority: 100, match: { vrf: red, source: [office], destination: [0.0.0.0/0], protocol: tcp, destinationPorts: [443, 8000-8099] }, appliedTo: [edge1/inside], level: gold, action: { chain: inspect } }';

describe('buildRuleRows', () => {
  it('turns names into numbers and groups into prefixes', () => {
    const revision = revisionOf(
      exampleText([WEB, '{ name: rest, priority: 1, match: { vrf: red }, action: drop }']),
    );
    const rows = buildRuleRows(revision, 'edge1');
    const [web, rest] = rows;
    expect(web).toMatchObject({
      number: revision.numbers.rules['web-out'],
      name: 'web-out',
      priority: 100,
      vrf: revision.numbers.vrfs.red,
      protocols: [6],
      sourcePorts: [],
      destinationPorts: [
        { first: 443, last: 443 },
        { first: 8000, last: 8099 },
      ],
      appliedTo: [revision.numbers.ports['edge1/inside']],
      action: RuleAction.CHAIN,
      chain: revision.numbers.chains['inspect/gold@red'],
      level: 'gold',
    });
    expect(web?.sources.map(formatPrefix)).toEqual(['10.1.0.0/16', '2001:db8:1::/48']);
    expect(web?.destinations.map(formatPrefix)).toEqual(['0.0.0.0/0']);
    expect(rest).toMatchObject({
      protocols: [],
      sources: [],
      destinations: [],
      appliedTo: [],
      action: RuleAction.DROP,
      chain: 0,
    });
  });

  it('gives each gateway only rules that its ports can meet', () => {
    const revision = revisionOf(
      exampleText([
        WEB,
        '{ name: everywhere, priority: 50, match: { vrf: red, source: [10.9.0.0/16] }, action: allow }',
        '{ name: other, priority: 40, match: { vrf: red, source: [10.8.0.0/16] }, appliedTo: [edge2/inside], action: allow }',
      ]),
    );
    const names = (gateway: string) => buildRuleRows(revision, gateway).map((row) => row.name);
    expect(names('edge1')).toEqual(['web-out', 'everywhere']);
    expect(names('edge2')).toEqual(['everywhere', 'other']);
    expect(names('unknown')).toEqual(['everywhere']);
  });

  it('a group of guests stands for their known addresses; one that holds nobody never matches, instead of matching all', () => {
    const revision = revisionOf(
      exampleText([
        '{ name: from-web, priority: 2, match: { vrf: red, source: [web] }, action: drop }',
        '{ name: from-nobody, priority: 1, match: { vrf: red, source: [nobody], destination: [office] }, action: drop }',
      ]),
    );
    const rows = buildRuleRows(revision, 'edge1');
    expect(rows.map((row) => row.name)).toEqual(['from-web']);
    expect(rows[0]?.sources.map(formatPrefix)).toEqual(['10.2.0.5/32']);
  });

  it.each([
    ['drop', true],
    ['allow', false],
  ])(
    'keeps a rule whose chain is missing, unresolved, under unresolvedPolicy %s',
    (policy, dropUnresolved) => {
      const text = exampleText(
        ['{ name: lost, priority: 5, match: { vrf: red }, action: { chain: r9 } }'],
        `unresolvedPolicy: ${policy}\n`,
      );
      const rows = buildRuleRows(revisionOf(text, { mode: 'partial' }), 'edge1');
      expect(rows).toHaveLength(1);
      expect(rows[0]).toMatchObject({ action: RuleAction.UNRESOLVED, chain: 0, dropUnresolved });
    },
  );
});
