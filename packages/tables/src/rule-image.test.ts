// SPDX-License-Identifier: Apache-2.0
import { RuleAction, RuleRow } from '@detour/contracts';
import { parseAddress, parsePrefix, type Tuple } from '@detour/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReferenceRules } from './reference-rules.js';
import { RuleImage } from './rule-image.js';
import { lookupEitherWay } from './rule-lookup.js';

function prefix(text: string) {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new Error(`${text} is no prefix`);
  return { ...parsed };
}
function address(text: string) {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`${text} is no address`);
  return parsed;
}

// Few distinct values, chosen to nest, touch and overlap, so that random packets meet random rules.
const PREFIXES = [
  '0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '10.1.128.0/17', '10.1.2.0/24', '10.1.2.128/25', '10.1.2.255/32', '10.1.3.0/24',
  '255.255.255.255/32', '128.0.0.0/1', '10.1.2.77/24', '::/0', '2001:db8::/32', '2001:db8:1::/48', '2001:db8:1:2::/64',
  '2001:db8:1:2::3/128', 'ffff::/16', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128', '::ffff:0:0/95',
].map(prefix); // biome-ignore format: a table
const ADDRESSES = [
  '0.0.0.0', '10.0.0.1', '10.1.0.0', '10.1.2.0', '10.1.2.127', '10.1.2.128', '10.1.2.255', '10.1.3.0', '10.1.255.255', '10.2.0.0',
  '127.255.255.255', '128.0.0.0', '255.255.255.255', '::', '2001:db8::', '2001:db8:1::1', '2001:db8:1:2::3', '2001:db8:1:3::',
  '2001:db9::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
].map(address); // biome-ignore format: a table
const PORTS = [0, 1, 79, 80, 81, 442, 443, 444, 1023, 1024, 65534, 65535];

const port = fc.constantFrom(...PORTS);
const range = fc.tuple(port, port).map(([x, y]) => ({ first: Math.min(x, y), last: Math.max(x, y) }));
const prefixes = fc.array(fc.constantFrom(...PREFIXES), { maxLength: 3 });
const rule = fc.record({
  priority: fc.integer({ min: 0, max: 5 }),
  vrf: fc.integer({ min: 1, max: 2 }),
  sources: prefixes,
  destinations: prefixes,
  protocols: fc.array(fc.constantFrom(1, 6, 17), { maxLength: 2 }),
  sourcePorts: fc.array(range, { maxLength: 2 }),
  destinationPorts: fc.array(range, { maxLength: 3 }),
  appliedTo: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
  action: fc.constantFrom(RuleAction.ALLOW, RuleAction.DROP),
});
const table = (size: { minLength?: number; maxLength: number }) =>
  fc.array(rule, size).map((rules) => rules.map((r, i) => RuleRow.fromPartial({ ...r, number: i + 1 })));
const packet: fc.Arbitrary<Tuple> = fc.record({
  vrf: fc.integer({ min: 1, max: 3 }),
  src: fc.constantFrom(...ADDRESSES),
  dst: fc.constantFrom(...ADDRESSES),
  sport: port,
  dport: port,
  proto: fc.constantFrom(1, 6, 17),
});
const packets = fc.array(packet, { minLength: 20, maxLength: 20 });

function expectAgreement(rules: RuleRow[], tuples: Tuple[]) {
  const reference = new ReferenceRules(rules);
  const image = RuleImage.of(rules);
  for (const tuple of tuples) {
    for (const entry of [1, 2, 4]) {
      expect(image.lookup(tuple, entry)?.rule).toBe(reference.lookup(tuple, entry)?.rule);
      const [x, y] = [image, reference].map((one) => lookupEitherWay(one, tuple, entry, { syn: false }));
      expect([x?.match.rule, x?.reversed]).toEqual([y?.match.rule, y?.reversed]);
    }
    expect(image.lookupAnyPort(tuple)?.rule).toBe(reference.lookupAnyPort(tuple)?.rule);
  }
}

describe('an image agrees with the reference', () => {
  it('on small random tables', () => {
    fc.assert(fc.property(table({ maxLength: 12 }), packets, expectAgreement), { numRuns: 400 });
  });

  it('on large random tables, where lists and address sets are in use', () => {
    fc.assert(fc.property(table({ minLength: 150, maxLength: 300 }), packets, expectAgreement), {
      numRuns: 30,
    });
  });

  it('on rules that differ in their ports alone', () => {
    const portsOnly = table({ minLength: 10, maxLength: 60 }).map((rules) =>
      rules.map((r) => ({ ...r, vrf: 1, sources: [], destinations: [], protocols: [], appliedTo: [] })),
    );
    fc.assert(fc.property(portsOnly, packets, expectAgreement), { numRuns: 200 });
  });

  it('on rules with long address lists, which share prefixes and lie beside single ones', () => {
    const apart = Array.from({ length: 14 }, (_, i) => prefix(`10.9.${i}.0/24`));
    const list = fc.oneof(
      fc.subarray(apart, { minLength: 9 }),
      fc.subarray(apart, { minLength: 1, maxLength: 2 }),
    );
    const ends = fc.tuple(fc.integer({ min: 0, max: 14 }), fc.integer({ min: 0, max: 14 }));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(list, list), { minLength: 2, maxLength: 6 }),
        fc.array(ends, { minLength: 20, maxLength: 20 }),
        (lists, pairs) => {
          const rules = lists.map(([sources, destinations], i) =>
            RuleRow.fromPartial({ number: i + 1, priority: 9 - i, vrf: 1, sources, destinations, action: 1 }),
          );
          const tuples = pairs.map(([x, y]) => ({
            ...{ vrf: 1, sport: 1, dport: 2, proto: 6 },
            src: address(`10.9.${x}.1`),
            dst: address(`10.9.${y}.1`),
          }));
          expectAgreement(rules, tuples);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('on random addresses and prefix lengths', () => {
    const near = fc
      .tuple(fc.constantFrom(...ADDRESSES), fc.integer({ min: 0, max: 127 }))
      .map(([base, bit]) => {
        const out = Uint8Array.from(base);
        out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
        return out;
      });
    const anyPrefix = fc.record({ address: near, bits: fc.integer({ min: 0, max: 128 }) });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyPrefix, anyPrefix), { minLength: 1, maxLength: 40 }),
        fc.array(fc.tuple(near, near), { minLength: 20, maxLength: 20 }),
        (fields, ends) => {
          const rules = fields.map(([source, destination], i) =>
            RuleRow.fromPartial({
              number: i + 1,
              vrf: 1,
              sources: [source],
              destinations: [destination],
              action: 1,
            }),
          );
          const tuples = ends.map(([src, dst]) => ({ vrf: 1, src, dst, sport: 1, dport: 2, proto: 6 }));
          expectAgreement(rules, tuples);
        },
      ),
      { numRuns: 300 },
    );
  });
});
