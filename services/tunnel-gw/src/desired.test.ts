// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import { type ExampleText, exampleText } from './testdata.js';

const full = readFileSync(
  fileURLToPath(new URL('../../../packages/intent/samples/full.yaml', import.meta.url)),
  'utf8',
);
const model = (text: string, name = 'edge1') => gatewayModel(revisionOf(text), name);

function refusal(text: string, name = 'edge1'): string {
  try {
    model(text, name);
  } catch (error) {
    if (error instanceof Fault) return `${error.code}: ${error.detail}`;
    throw error;
  }
  throw new Error('it was taken');
}

describe('gatewayModel', () => {
  it('has the ports and nodes of one gateway, with the names and numbers that everybody derives', () => {
    const { ports, nodes, vrfs, underlay, chainNames, ruleNames, pathNodes } = model(exampleText());
    expect(vrfs).toEqual([{ name: 'red', number: 1, table: 100 }]);
    expect(underlay).toEqual({ device: 'eth0', address: '192.0.2.1', attachMode: 'auto' });
    expect(ports.map((port) => [port.name, port.kind, port.device, port.table, port.classify])).toEqual([
      ['inside', 'internal', 'eth1', 100, true],
      ['outside', 'uplink', 'eth2', 100, true],
    ]);
    expect(nodes[0]).toMatchObject({
      name: 'fw1',
      device: 'vti-fw1',
      remote: '192.0.2.11',
      protocol: 'vxlan',
      tag: 4001,
      l3: false,
      local: '169.254.1.1/30',
      peer: '169.254.1.2',
      strictReturn: true,
      liveness: true,
      adminDownAction: 'keep',
    });
    expect([...chainNames.values(), ...ruleNames.values()]).toEqual(['inspect', 'web']);
    expect([...pathNodes.values()]).toEqual(nodes.map((node) => [node.number]));
  });

  it('a branch VTI is a port with its tunnel', () => {
    const branch =
      '{ name: branch, kind: vti, vrf: red, classify: true, addresses: [169.254.7.1/30], tunnel: { protocol: vxlan, remote: 203.0.113.7, vni: 7 } }';
    const [port] = model(exampleText({ ports: [branch], rules: [] })).ports;
    expect(port).toMatchObject({
      kind: 'vti',
      device: 'vti-branch',
      tunnel: { protocol: 'vxlan', remote: '203.0.113.7', tag: 7 },
    });
  });

  it('an appliance of a gateway load balancer is a node behind Geneve with VNI 0, IP inside, strict', () => {
    const text = exampleText({ nodes: ['fw1'] }).replace(
      /attach: \{ kind: tunnel.*\} \}/,
      'attach: { kind: gwlb, remote: 192.0.2.31 } }',
    );
    const [node] = model(text).nodes;
    expect(node).toMatchObject({
      protocol: 'geneve',
      remote: '192.0.2.31',
      tag: 0,
      l3: true,
      gwlb: { endpoint: 1, attachment: node?.number },
      strictReturn: true,
      local: '192.0.0.8/32',
      device: 'vti-fw1',
    });
    expect(refusal(text.replace('remote: 192.0.2.31', 'remote: 192.0.2.31, udpPort: 6082'))).toMatch(
      /^refused: node fw1: gwlb to UDP port 6082 is not supported .* use port 6081/,
    );
  });

  it.each([
    ['geneve, remote: 203.0.113.7, vni: 7', { protocol: 'geneve', tag: 7, l3: false, checksum: false }],
    [
      'geneve, remote: 203.0.113.7, vni: 7, inner: l3, checksum: true',
      { protocol: 'geneve', tag: 7, l3: true, checksum: true },
    ],
    ['gre, remote: 203.0.113.7', { protocol: 'gre', tag: null, l3: true, checksum: false }],
    ['gre, remote: 203.0.113.7, key: 0, inner: l2', { protocol: 'gre', tag: 0, l3: false, checksum: false }],
  ])('a tunnel of protocol %s', (text, want) => {
    const branch = `{ name: branch, kind: vti, vrf: red, classify: true, tunnel: { protocol: ${text} } }`;
    const [port] = model(exampleText({ ports: [branch], rules: [] })).ports;
    expect(port?.tunnel).toMatchObject(want);
  });

  it('says which gateway it did not find, and what to do', () => {
    expect(refusal(exampleText(), 'edge9')).toBe(
      'not_found: revision 1 names no gateway edge9: add it to gateways, or correct DETOUR_GATEWAY',
    );
  });

  const INSIDE = '{ name: inside, kind: internal, device: eth1, vrf: red, classify: true';
  it.each([
    ['tc', { ports: [`${INSIDE}, attachMode: tc }`] }, /port edge1\/inside: attachMode tc is for hosts/],
    ...(['vxlan', 'geneve'] as const).map(
      (protocol) =>
        [
          `${protocol} to another port`,
          {
            ports: [
              `{ name: branch, kind: vti, vrf: red, classify: true, tunnel: { protocol: ${protocol}, remote: 203.0.113.7, vni: 7, udpPort: 6082 } }`,
            ],
          },
          new RegExp(
            `port edge1/branch: ${protocol} to UDP port 6082 is not supported .* use port (4789|6081)`,
          ),
        ] as const,
    ),
  ] as const)('refuses by name what this datapath cannot do: %s', (_what, change: ExampleText, want) => {
    expect(refusal(exampleText({ ...change, rules: [] }))).toMatch(want);
    expect(refusal(exampleText({ ...change, rules: [] }))).toMatch(/^refused: /);
  });

  it('a port with SNAT has its address; a stored one of IPv6 is refused', () => {
    const ports = ['{ name: out, kind: uplink, device: eth2, vrf: red, classify: true, snat: 198.51.100.1 }'];
    const revision = revisionOf(exampleText({ ports, rules: [] }));
    expect(gatewayModel(revision, 'edge1').ports).toMatchObject([{ name: 'out', snat: '198.51.100.1' }]);
    const beside = (vrf: string, snat: string) =>
      exampleText({ ports, rules: [] }).replace(
        'healthProfiles:',
        `  - name: edge2\n    underlay: { device: eth0, address: 192.0.2.2 }\n    ports: [{ name: out, kind: uplink, device: eth2, vrf: ${vrf}, classify: true, snat: ${snat} }]\nhealthProfiles:`,
      );
    const shared = (text: string) => gatewayModel(revisionOf(text), 'edge1').ports[0]?.snatShared;
    expect(shared(exampleText({ ports, rules: [] }))).toBeUndefined();
    expect(shared(beside('red', '198.51.100.2'))).toBeUndefined();
    expect(shared(beside('red', '198.51.100.1'))).toBe(true);
    const six = JSON.parse(JSON.stringify(revision).replace('198.51.100.1', '2001:db8::1'));
    expect(() => gatewayModel(six, 'edge1')).toThrow(/port edge1\/out: snat 2001:db8::1 is no IPv4 address/);
  });

  it('refuses the sample of everything at the gateway that would have to do it, and not at another', () => {
    expect(refusal(full, 'edge1')).toMatch(/^refused: node ids3: attach kind plane is not supported/);
    // edge2 has plain ports; nodes at edge1's devices are not its matter, those that any gateway may reach are.
    expect(refusal(full, 'edge2')).toMatch(/^refused: node ids3: attach kind plane is not supported/);
  });

  it('a node that is attached elsewhere is no node here', () => {
    const text = exampleText({ nodes: ['fw1'] })
      .replace('gateways: { edge1:', 'gateways: { edge2:')
      .replace(
        'healthProfiles:',
        '  - name: edge2\n    underlay: { device: eth0, address: 192.0.2.2 }\n    ports: [{ name: in, kind: internal, device: eth1, vrf: red, classify: true }]\nhealthProfiles:',
      );
    expect(model(text, 'edge1').nodes).toEqual([]);
    expect(model(text, 'edge2').nodes.map((node) => node.name)).toEqual(['fw1']);
  });
});
