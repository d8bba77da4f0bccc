// SPDX-License-Identifier: Apache-2.0
import { RuleAction, RuleRow } from '@detour/contracts';
import { parseAddress, parsePrefix, reverseTuple, type Tuple } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { ReferenceRules } from './reference-rules.js';
import { RuleImage } from './rule-image.js';
import { lookupEitherWay, type RuleLookup } from './rule-lookup.js';

function prefix(text: string) {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new Error(`${text} is no prefix`);
  return { ...parsed };
}
function tuple(src: string, dst: string, extra: Partial<Tuple> = {}): Tuple {
  const [from, to] = [parseAddress(src), parseAddress(dst)];
  if (!from || !to) throw new Error('no address');
  return { vrf: 1, src: from, dst: to, sport: 40000, dport: 80, proto: 6, ...extra };
}
const web = RuleRow.fromPartial({
  number: 1,
  name: 'web-out',
  priority: 100,
  vrf: 1,
  sources: [prefix('10.1.0.0/16')],
  protocols: [6],
  destinationPorts: [{ first: 80, last: 80 }, { first: 8000, last: 8099 }], // biome-ignore format: short
  appliedTo: [3],
  action: RuleAction.CHAIN,
  chain: 5,
});
const request = tuple('10.1.2.3', '203.0.113.9');

// One contract, both look-ups.
describe.each<[string, (rules: RuleRow[]) => RuleLookup]>([
  ['ReferenceRules', (rules) => new ReferenceRules(rules)],
  ['ImageRules', (rules) => RuleImage.of(rules)],
])('%s', (_, make) => {
  it('says which rule, what it does, and why', () => {
    const match = make([web]).lookup(request, 3);
    expect(match).toMatchObject({ rule: 1, action: 'chain', chain: 5 });
    expect(match?.why).toBe(
      'rule web-out (priority 100): port 3, protocol 6, source 10.1.2.3 in 10.1.0.0/16, destination port 80 in 80',
    );
  });

  it('no rule: no match', () => {
    const rules = make([web]);
    expect(rules.lookup({ ...request, dport: 81 }, 3)).toBeNull();
    expect(rules.lookup({ ...request, vrf: 2 }, 3)).toBeNull();
    expect(rules.lookup(request, 4)).toBeNull();
    expect(make([]).lookup(request, 3)).toBeNull();
  });

  it('the higher priority wins, then the lower number', () => {
    const keep = {
      ...web,
      number: 9,
      priority: 200,
      action: RuleAction.ALLOW,
      chain: 0,
      destinationPorts: [],
    };
    expect(make([web, keep]).lookup(request, 3)).toMatchObject({ rule: 9, action: 'allow' });
    expect(
      make([
        { ...web, number: 8 },
        { ...web, number: 2 },
      ]).lookup(request, 3)?.rule,
    ).toBe(2);
  });

  it('a rule whose chain is missing is unresolved', () => {
    const rule = { ...web, action: RuleAction.UNRESOLVED, chain: 0, dropUnresolved: true };
    const match = make([rule]).lookup(request, 3);
    expect(match?.action).toBe('unresolved');
    expect(match?.row.dropUnresolved).toBe(true);
  });

  it('a reply matches reversed, by any port of the VRF; a SYN does not', () => {
    const rules = make([web]);
    const reply = reverseTuple(request);
    expect(lookupEitherWay(rules, request, 3, { syn: true })).toMatchObject({
      reversed: false,
      match: { rule: 1 },
    });
    expect(lookupEitherWay(rules, reply, 7, { syn: false })).toMatchObject({
      reversed: true,
      match: { rule: 1 },
    });
    expect(lookupEitherWay(rules, reply, 7, { syn: true })).toBeNull();
    // the forward side itself must come by the rule's port
    expect(lookupEitherWay(rules, request, 7, { syn: false })).toBeNull();
    expect(lookupEitherWay(rules, reply, 7, { syn: false })?.match.why).toContain('reply, by any port');
  });

  it('a packet that matches as it is, is forward, though its reverse would match a higher rule', () => {
    const back = { ...web, number: 2, priority: 1, sources: [], destinationPorts: [], appliedTo: [] };
    const reply = reverseTuple(request);
    expect(lookupEitherWay(make([web, back]), reply, 3, { syn: false })).toMatchObject({
      reversed: false,
      match: { rule: 2 },
    });
  });

  it('port ranges match TCP and UDP alone', () => {
    const anyProtocol = { ...web, protocols: [] };
    expect(make([anyProtocol]).lookup({ ...request, proto: 17 }, 3)?.rule).toBe(1);
    expect(make([anyProtocol]).lookup({ ...request, proto: 1 }, 3)).toBeNull();
  });

  it('::/0 means IPv6, 0.0.0.0/0 means IPv4', () => {
    const six = { ...web, sources: [prefix('::/0')] };
    const four = { ...web, sources: [prefix('0.0.0.0/0')] };
    const request6 = tuple('2001:db8::1', '2001:db8::2');
    expect(make([six]).lookup(request, 3)).toBeNull();
    expect(make([six]).lookup(request6, 3)?.rule).toBe(1);
    expect(make([four]).lookup(request, 3)?.rule).toBe(1);
    expect(make([four]).lookup(request6, 3)).toBeNull();
  });
});
