// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalText, fromDocument, sha256Hex, toDocument } from './canonical.js';
import { diffIntent } from './diff.js';
import { parseIntent } from './parse.js';
import type { Intent } from './schema.js';

const FULL = readFileSync(new URL('../samples/full.yaml', import.meta.url), 'utf8');

function intentOf(text: string): Intent {
  const result = parseIntent(text, 'f.yaml');
  if (!result.ok)
    throw new Error(result.problems.map(({ path, message }) => `${path} ${message}`).join('; '));
  return result.intent;
}

/** Random documents: any scalars within their bounds, rows in any order. */
const documents = fc
  .record({
    vni: fc.integer({ min: 1, max: 16_777_215 }),
    capacity: fc.integer({ min: 1, max: 1_000_000 }),
    share: fc.option(fc.integer({ min: 1, max: 10_000 })),
    tcp: fc.integer({ min: 1000, max: 2_592_000_000 / 60 }),
    hysteresis: fc.integer({ min: 0, max: 10_000 }),
    optional: fc.boolean(),
    failure: fc.constantFrom('drop', 'bypass', '{ backup: d }'),
    protocol: fc.constantFrom('tcp', 'udp', '6', '17', '132'),
    ports: fc.array(fc.tuple(fc.integer({ min: 0, max: 65_535 }), fc.integer({ min: 0, max: 65_535 })), {
      maxLength: 4,
    }),
    v4: fc.array(fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })), { maxLength: 3 }),
    v6: fc.array(fc.ipV6(), { maxLength: 3 }),
    order: fc.boolean(),
  })
  .map((d) => {
    const mask = ([address, length]: [string, number]): string => {
      const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
      const network = length === 0 ? 0 : Math.floor(value / 2 ** (32 - length)) * 2 ** (32 - length);
      return `${[24, 16, 8, 0].map((shift) => Math.floor(network / 2 ** shift) % 256).join('.')}/${length}`;
    };
    const destination = [...d.v4.map(mask), ...d.v6.map((address) => `'${address}'`)].join(', ');
    const ports = d.ports.map(([a, b]) => (a === b ? a : `${Math.min(a, b)}-${Math.max(a, b)}`)).join(', ');
    const services = ['  - { name: s }', '  - { name: t }'];
    return `apiVersion: detour/v1
vrfs: [{ name: red, table: 7 }]
gateways: [{ name: e, underlay: { device: eth0, address: 192.0.2.1 } }]
services:
${(d.order ? services : services.reverse()).join('\n')}
nodes:
  - name: n
    service: s
    capacity: ${d.capacity}
${d.share === null ? '' : `    maxShare: ${d.share / 100}%`}
    attach: { kind: tunnel, protocol: geneve, vni: ${d.vni}, remote: 192.0.2.9, gateways: { e: { local: 10.0.0.1/30, peer: 10.0.0.2 } } }
  - { name: m, service: t, attach: { kind: gwlb, remote: 192.0.2.8 } }
chains:
  - { name: c, hops: [s, { service: t, optional: ${d.optional} }], onFailure: ${d.failure}, idleTimeout: { tcp: ${d.tcp}ms } }
  - { name: d, hops: [t] }
scoring: { default: { hysteresis: ${d.hysteresis / 100}% } }
rules:
  - { name: r, priority: 1, match: { vrf: red, destination: [${destination}], protocol: ${d.protocol}, destinationPorts: [${ports}] }, action: { chain: c } }
`;
  });

describe('canonical form', () => {
  it('parses back to the same intent, whatever was written', () => {
    fc.assert(
      fc.property(documents, (text) => {
        const intent = intentOf(text);
        const canonical = canonicalText(intent);
        expect(intentOf(canonical)).toEqual(intent);
        expect(canonicalText(intentOf(canonical))).toBe(canonical);
      }),
      { numRuns: 100 },
    );
  });

  it('holds for the sample, also through plain JSON', () => {
    const intent = intentOf(FULL);
    expect(intentOf(canonicalText(intent))).toEqual(intent);
    const back = fromDocument(JSON.parse(JSON.stringify(toDocument(intent))));
    expect(back).toEqual({ ok: true, intent });
  });

  it('does not depend on the order of rows and keys, on spelling, or on defaults written out', () => {
    const a = intentOf(`apiVersion: detour/v1
vrfs: [{ name: red, table: 1 }, { table: 2, name: blue }]
groups: [{ name: g, addresses: [10.0.0.1, '2001:DB8:0:0::/32'] }]
chains: []`);
    const b = intentOf(`unresolvedPolicy: drop
groups: [{ addresses: [10.0.0.1/32, '2001:db8::/32'], name: g }]
vrfs: [{ name: blue, table: 2 }, { name: red, table: 1 }]
apiVersion: detour/v1`);
    expect(sha256Hex(canonicalText(a))).toBe(sha256Hex(canonicalText(b)));
  });

  it('says what is wrong with a document that it cannot read back', () => {
    expect(fromDocument({ apiVersion: 'detour/v1', vrfs: [{ name: 'red' }] })).toMatchObject({
      ok: false,
      why: expect.stringContaining('vrfs.0.table'),
    });
  });
});

describe('diff', () => {
  it('names rows added, removed and changed, with the values that differ', () => {
    const before = intentOf(FULL);
    const after = intentOf(
      FULL.replace('capacity: 100', 'capacity: 200')
        .replace('name: no-telnet', 'name: telnet')
        .replace('otherZoneFactor: 0.5', 'otherZoneFactor: 0.7')
        .replace('unresolvedPolicy: drop', 'unresolvedPolicy: allow'),
    );
    expect(diffIntent(before, after)).toEqual([
      {
        change: 'changed',
        section: 'nodes',
        name: 'fw1',
        fields: [{ path: 'capacity', before: 100, after: 200 }],
      },
      { change: 'removed', section: 'rules', name: 'no-telnet', fields: [] },
      { change: 'added', section: 'rules', name: 'telnet', fields: [] },
      {
        change: 'changed',
        section: 'scoring',
        name: 'default',
        fields: [{ path: 'otherZoneFactor', before: 0.5, after: 0.7 }],
      },
      {
        change: 'changed',
        section: 'unresolvedPolicy',
        name: '',
        fields: [{ path: '', before: 'drop', after: 'allow' }],
      },
    ]);
  });

  it('is empty between equal intents, and all additions against none', () => {
    const intent = intentOf(FULL);
    expect(diffIntent(intent, intentOf(canonicalText(intent)))).toEqual([]);
    expect(new Set(diffIntent(null, intent).map(({ change }) => change))).toEqual(new Set(['added']));
  });
});
