// SPDX-License-Identifier: Apache-2.0
import { ClassifyQuestion, RuleAction, TableVersion } from '@detour/contracts';
import { PROTO, parseAddress } from '@detour/core';
import { digestRules } from '@detour/tables';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { answerQuestion } from './classify.js';
import { LiveTables } from './live-tables.js';
import { exampleText } from './testdata.js';

const WEB =
  '{ name: web-out, priority: 100, match: { vrf: red, source: [office], protocol: tcp, destinationPorts: [443] }, appliedTo: [edge1/inside], action: { chain: inspect } }';
const version = (revision: number) => TableVersion.fromPartial({ epoch: 'e', sequence: 7n, revision });
const bytes = (text: string) => parseAddress(text) ?? new Uint8Array();

function question(over: {
  src: string;
  dst: string;
  sport: number;
  dport: number;
  port: number;
  syn?: boolean;
}) {
  const { src, dst, sport, dport, port, syn = true } = over;
  const tuple = { vrf: 1, src: bytes(src), dst: bytes(dst), sport, dport, proto: PROTO.tcp };
  return ClassifyQuestion.fromPartial({ id: 9n, gateway: 'edge1', tuple, port, syn });
}

function live() {
  const revision = revisionOf(exampleText([WEB]));
  const tables = new LiveTables();
  expect(tables.apply(revision, version(1))).toBeNull();
  return {
    tables,
    inside: revision.numbers.ports['edge1/inside'] ?? 0,
    outside: revision.numbers.ports['edge1/outside'] ?? 0,
  };
}

describe('answerQuestion', () => {
  const out = { src: '10.1.2.3', dst: '203.0.113.9', sport: 40000, dport: 443 };

  it('names the rule, its chain and which fields held', () => {
    const { tables, inside } = live();
    const answer = answerQuestion(question({ ...out, port: inside }), tables.tableOf('edge1'));
    expect(answer).toMatchObject({
      id: 9n,
      rule: 1,
      action: RuleAction.CHAIN,
      chain: 1,
      reversed: false,
      error: '',
    });
    expect(answer.version).toEqual(version(1));
    expect(answer.why).toBe(
      `rule web-out (priority 100): port ${inside}, protocol 6, source 10.1.2.3 in 10.1.0.0/16, destination port 443 in 443`,
    );
  });

  it('says that no rule matches, and for which port', () => {
    const { tables, inside, outside } = live();
    const other = answerQuestion(question({ ...out, dport: 80, port: inside }), tables.tableOf('edge1'));
    expect(other).toMatchObject({ rule: 0, action: RuleAction.ALLOW, error: '' });
    expect(other.why).toContain(`no rule of VRF 1 matches 10.1.2.3:40000 > 203.0.113.9:80 protocol 6`);
    expect(answerQuestion(question({ ...out, port: outside }), tables.tableOf('edge1')).rule).toBe(0);
    expect(answerQuestion(question({ ...out, port: inside }), tables.tableOf('edge2')).rule).toBe(0);
  });

  it('knows a reply by the reversed tuple, by any port, unless it is a SYN', () => {
    const { tables, outside } = live();
    const back = { src: out.dst, dst: out.src, sport: 443, dport: 40000, port: outside };
    const reply = answerQuestion(question({ ...back, syn: false }), tables.tableOf('edge1'));
    expect(reply).toMatchObject({ rule: 1, reversed: true });
    expect(reply.why).toMatch(/^reply: rule web-out/);
    expect(answerQuestion(question(back), tables.tableOf('edge1')).rule).toBe(0);
  });

  it('refuses what is no question, by name', () => {
    const { tables } = live();
    const table = tables.tableOf('edge1');
    expect(answerQuestion(ClassifyQuestion.fromPartial({ id: 1n }), table).error).toBe(
      'question 1 has no tuple',
    );
    const short = ClassifyQuestion.fromPartial({
      id: 2n,
      tuple: { src: new Uint8Array(4), dst: new Uint8Array(16) },
    });
    expect(answerQuestion(short, table).error).toContain('addresses of 4 and 16 bytes');
    expect(answerQuestion(question({ ...out, port: 1 }), null).error).toContain('no revision');
  });
});

describe('LiveTables', () => {
  it('keeps the old tables when the new ones may not be published', () => {
    const { tables } = live();
    const broken = revisionOf(exampleText([WEB]), { revision: 2 });
    const numbers = { ...broken.numbers, rules: { 'web-out': 0 } };
    expect(tables.apply({ ...broken, numbers }, version(2))).toContain('edge1: rule web-out: number 0');
    expect(tables.version?.revision).toBe(1);
    expect(tables.tableOf('edge1')?.rows).toHaveLength(1);
  });

  it('equal documents give byte-identical tables on two replicas, whatever the order of lists', () => {
    const one = exampleText([
      '{ name: r, priority: 1, match: { vrf: red, source: [10.1.0.0/16, 10.0.0.0/8] }, action: drop }',
    ]);
    const two = exampleText([
      '{ name: r, priority: 1, match: { vrf: red, source: [10.0.0.0/8, 10.1.0.0/16] }, action: drop }',
    ]);
    const digests = [one, two].map((text) => {
      const tables = new LiveTables();
      tables.apply(revisionOf(text), version(1));
      return Buffer.from(digestRules(tables.tableOf('edge1')?.rows ?? [])).toString('hex');
    });
    expect(digests[0]).toBe(digests[1]);
  });

  it('names rules whose chain is missing', () => {
    const text = exampleText(['{ name: lost, priority: 5, match: { vrf: red }, action: { chain: r9 } }']);
    const tables = new LiveTables();
    tables.apply(revisionOf(text, { mode: 'partial' }), version(1));
    expect(tables.unresolved()).toEqual([{ rule: 'lost', chain: 'r9' }]);
  });
});
