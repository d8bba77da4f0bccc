// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseIntent } from './parse.js';
import type { Problem, ProblemCode } from './problem.js';

const FULL = readFileSync(new URL('../samples/full.yaml', import.meta.url), 'utf8');

function problemsOf(text: string): readonly Problem[] {
  const result = parseIntent(text, 'f.yaml');
  return result.ok ? [] : result.problems;
}

/** A document with one VRF, one port and the given rows. */
function small(rows: string): string {
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }, { name: blue, table: 200 }]
groups:
  - { name: web, guestLabels: { app: web } }
  - { name: db, guestLabels: { app: db } }
hosts:
  - name: h1
    underlay: { device: eth0, address: 192.0.2.21 }
    guests:
      - { name: a, device: veth-a, vrf: red, labels: { app: web } }
      - { name: b, device: veth-b, vrf: red, labels: { app: db } }
gateways:
  - name: edge1
    underlay: { device: eth0, address: 192.0.2.1 }
    ports:
      - { name: inside, kind: internal, device: eth1, vrf: red, classify: true }
      - { name: outside, kind: uplink, device: eth2, vrf: red, classify: true }
      - { name: other, kind: internal, device: eth7, vrf: blue, classify: true }
healthProfiles: [{ name: fast, bfd: {}, tcp: { port: 80 } }]
services: [{ name: firewall }, { name: dpi }]
nodes:
  - { name: fw1, service: firewall, health: fast, attach: { kind: gwlb, vrf: red, remote: 192.0.2.11 } }
${rows}`;
}

function codesOf(text: string): [ProblemCode, string][] {
  return problemsOf(text).map(({ code, path }) => [code, path]);
}

describe('checks across rows', () => {
  it('refuses a chain of a service without nodes', () => {
    expect(codesOf(small('chains: [{ name: c, hops: [firewall, dpi] }]'))).toEqual([
      ['service_without_nodes', 'chains[0].hops[1]'],
    ]);
  });

  it('refuses a rule whose chain has no node in its VRF', () => {
    const rows = `chains: [{ name: c, hops: [firewall] }]
rules: [{ name: r, priority: 1, match: { vrf: blue }, action: { chain: c } }]`;
    expect(codesOf(small(rows))).toEqual([['chain_not_in_vrf', 'rules[0].action.chain']]);
  });

  it('refuses a rule with sides of two address families', () => {
    const rows = `rules: [{ name: r, priority: 1, match: { vrf: red, source: [10.0.0.0/8], destination: ['::/0'] }, action: allow }]`;
    expect(codesOf(small(rows))).toEqual([['family_mismatch', 'rules[0].match']]);
  });

  it('refuses a chain of more than 1,024 paths, and takes one of 1,024', () => {
    const chain = (count: number): string => {
      const nodes = Array.from({ length: count }, (_, i) => [
        `  - { name: a${i}, service: a, health: fast, attach: { kind: gwlb, vrf: red, remote: 10.0.0.${i + 1} } }`,
        `  - { name: b${i}, service: b, health: fast, attach: { kind: gwlb, vrf: red, remote: 10.0.1.${i + 1} } }`,
      ]);
      return `${small(nodes.flat().join('\n')).replace('{ name: dpi }', '{ name: a }, { name: b }')}
chains: [{ name: c, hops: [a, b] }]`;
    };
    expect(problemsOf(chain(32))).toEqual([]);
    expect(codesOf(chain(33))).toEqual([['too_many_paths', 'chains[0].hops']]);
  });

  it('reports a wrong reference in a row whose shape is wrong too', () => {
    const rows = `rules: [{ name: r, priority: 1.5, match: { vrf: rde }, action: { chain: nope } }]`;
    expect(codesOf(small(rows))).toEqual([
      ['wrong_shape', 'rules[0].priority'],
      ['unknown_reference', 'rules[0].match.vrf'],
      ['unknown_reference', 'rules[0].action.chain'],
    ]);
  });

  it('reports only the row at fault, not those that name it', () => {
    const rows = `chains: [{ name: c, hops: [firewall], select: best }]
rules: [{ name: r, priority: 1, match: { vrf: red }, action: { chain: c } }]`;
    expect(codesOf(small(rows))).toEqual([['wrong_shape', 'chains[0].select']]);
  });

  it('warns of a rule in a VRF where no port classifies', () => {
    const text = small('rules: [{ name: r, priority: 1, match: { vrf: blue }, action: drop }]');
    const result = parseIntent(text.replace('vrf: blue, classify: true', 'vrf: blue'), 'f.yaml');
    expect(result.ok && result.warnings.map(({ code }) => code)).toEqual(['port_does_not_classify']);
  });

  it('reports problems in the order of the text', () => {
    const text = FULL.replace('table: 100', 'table: 0')
      .replace('vni: 4001', 'vni: 0')
      .replace('action: drop', 'action: no');
    expect(problemsOf(text).map(({ path }) => path)).toEqual([
      'vrfs[0].table',
      'nodes[0].attach.vni',
      'rules[2].action',
    ]);
  });
});

describe('equal priorities', () => {
  const clash = (a: string, b: string): [ProblemCode, string][] =>
    codesOf(
      small(`rules:
  - { name: r1, priority: 5, ${a}, action: drop }
  - { name: r2, priority: 5, ${b}, action: allow }`),
    );
  const refused = [['ambiguous_priority', 'rules[1].priority']];

  it.each([
    ['any with any', 'match: { vrf: red }', 'match: { vrf: red }'],
    [
      'a prefix inside another',
      'match: { vrf: red, destination: [10.0.0.0/8] }',
      'match: { vrf: red, destination: [10.2.0.0/16] }',
    ],
    [
      'one of several prefixes',
      'match: { vrf: red, source: [10.0.0.0/8, 192.0.2.0/24] }',
      'match: { vrf: red, source: [192.0.2.7/32] }',
    ],
    [
      'ports that touch',
      'match: { vrf: red, protocol: tcp, destinationPorts: [80-90] }',
      'match: { vrf: red, protocol: tcp, destinationPorts: [90-99] }',
    ],
    ['a protocol and any', 'match: { vrf: red, protocol: tcp }', 'match: { vrf: red }'],
    [
      'a guest group and a prefix',
      'match: { vrf: red, destination: [web] }',
      'match: { vrf: red, destination: [10.0.0.0/8] }',
    ],
    [
      'one common port',
      'match: { vrf: red }, appliedTo: [edge1/inside, edge1/outside]',
      'match: { vrf: red }, appliedTo: [edge1/outside]',
    ],
  ])('refused: %s', (_title, a, b) => {
    expect(clash(a, b)).toEqual(refused);
  });

  it.each([
    ['other VRFs', 'match: { vrf: red }', 'match: { vrf: blue }'],
    [
      'disjoint destinations',
      'match: { vrf: red, destination: [10.0.0.0/9] }',
      'match: { vrf: red, destination: [10.128.0.0/9] }',
    ],
    [
      'disjoint sources',
      'match: { vrf: red, source: [10.1.0.0/16] }',
      'match: { vrf: red, source: [10.2.0.0/16] }',
    ],
    [
      'two families',
      'match: { vrf: red, destination: [0.0.0.0/0] }',
      "match: { vrf: red, destination: ['::/0'] }",
    ],
    ['two protocols', 'match: { vrf: red, protocol: tcp }', 'match: { vrf: red, protocol: udp }'],
    [
      'disjoint ports',
      'match: { vrf: red, protocol: tcp, destinationPorts: [80] }',
      'match: { vrf: red, protocol: tcp, destinationPorts: [81] }',
    ],
    ['disjoint guests', 'match: { vrf: red, source: [web] }', 'match: { vrf: red, source: [db] }'],
    [
      'ports of their own',
      'match: { vrf: red }, appliedTo: [edge1/inside]',
      'match: { vrf: red }, appliedTo: [edge1/outside]',
    ],
  ])('accepted: %s', (_title, a, b) => {
    expect(clash(a, b)).toEqual([]);
  });
});

describe('partial', () => {
  const rows = `  - name: bad
    service: firewall
    health: fast
    attach: { kind: l2pair, gateway: edge1, a: { device: la }, b: { device: lb },
      vrfs: { red: { a: { address: 10.0.0.1/30, nextHop: 10.0.0.2 }, b: { address: 10.0.1.1/30, nextHop: 10.0.1.2 } } } }
  - name: half
    service: firewall
    health: fast
    attach: { kind: l2pair, gateway: edge1, a: { device: eth5 }, b: { device: eth6 },
      vrfs: { red: { vlan: 5, a: { address: 10.0.0.1/30, nextHop: 10.0.0.2 }, b: { address: 10.0.1.1/30, nextHop: 10.0.1.2 } },
              blue: { vlan: 6, a: { address: 10.0.0.1/30, nextHop: 10.0.0.9 }, b: { address: 10.0.1.1/30, nextHop: 10.0.1.2 } } } }
chains: [{ name: c, hops: [firewall] }, { name: e, hops: [nothing] }]
rules:
  - { name: r1, priority: 1, match: { vrf: red }, action: { chain: c } }
  - { name: r2, priority: 1, match: { vrf: red }, action: { chain: c } }
  - { name: r3, priority: 3, match: { vrf: red }, action: { chain: e } }
  - { name: r9, priority: 9, match: { vrf: red }, action: { chain: policy-9 } }`;
  const text = small(rows).replace(
    '- { name: other',
    '- { name: pa, kind: service, device: la, vrf: red }\n      - { name: pb, kind: service, device: lb, vrf: blue }\n      - { name: other',
  );
  const result = parseIntent(text, 'f.yaml', 'partial');

  it('VRFC-2 leaves out the pair whose members are in different VRFs and installs the rest', () => {
    if (!result.ok) throw new Error('refused');
    expect(result.intent.nodes.map(({ name }) => name)).toEqual(['fw1', 'half']);
    expect(result.refused).toContainEqual(
      expect.objectContaining({
        code: 'pair_vrf_mismatch',
        row: { section: 'nodes', name: 'bad', index: 1, vrf: 'red' },
      }),
    );
  });

  it('VRFD-7 leaves out only the VRF of the pair whose next hop is wrong', () => {
    if (!result.ok) throw new Error('refused');
    const half = result.intent.nodes.find(({ name }) => name === 'half');
    expect(half?.attach.kind === 'l2pair' && Object.keys(half.attach.vrfs)).toEqual(['red']);
    expect(result.refused.map(({ path }) => path)).toContain('nodes[2].attach.vrfs.blue.a.nextHop');
  });

  it('VRFC-3 keeps a rule whose chain does not exist, or was refused, unresolved', () => {
    if (!result.ok) throw new Error('refused');
    expect(result.intent.chains.map(({ name }) => name)).toEqual(['c']);
    expect(result.intent.rules.map(({ name }) => name)).toEqual(['r9', 'r3', 'r1']);
    expect(result.refused.map(({ code, path }) => [code, path])).toEqual([
      ['pair_vrf_mismatch', 'nodes[1].attach.vrfs.red'],
      ['next_hop_subnet', 'nodes[2].attach.vrfs.blue.a.nextHop'],
      ['unknown_reference', 'chains[1].hops[0]'],
      ['ambiguous_priority', 'rules[1].priority'],
      ['refused_reference', 'rules[2].action.chain'],
      ['unknown_reference', 'rules[3].action.chain'],
    ]);
  });

  it('is refused whole without partial', () => {
    expect(problemsOf(text)).not.toEqual([]);
  });

  it('still refuses a text that is no document', () => {
    expect(parseIntent('- 1', 'f.yaml', 'partial').ok).toBe(false);
    expect(parseIntent('apiVersion: [', 'f.yaml', 'partial').ok).toBe(false);
  });
});
