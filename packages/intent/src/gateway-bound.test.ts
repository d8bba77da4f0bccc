// SPDX-License-Identifier: Apache-2.0
// Nodes on a gateway's own links are that gateway's alone, and the operator is told so where that costs connections.
import { describe, expect, it } from 'vitest';
import { parseIntent } from './parse.js';
import { formatProblem } from './problem.js';

const PAIR =
  'kind: l2pair, gateway: edge1, a: { device: eth5 }, b: { device: eth6 }, vrfs: { red: { a: { address: 10.0.0.1/30, nextHop: 10.0.0.2 }, b: { address: 10.0.1.1/30, nextHop: 10.0.1.2 } } }';
const ROUTER = 'kind: l3, vrf: red, gateway: edge1, device: eth5, nextHop: 10.0.0.2';
const TUNNEL =
  'kind: tunnel, vrf: red, protocol: vxlan, remote: 192.0.2.11, vni: 4001, gateways: { edge1: { local: 169.254.1.1/30, peer: 169.254.1.2 }, edge2: { local: 169.254.1.5/30, peer: 169.254.1.6 } }';

/** Two gateways, one node with this attach; edge2's port is in this VRF. */
function parse(attach: string, vrfOfEdge2 = 'red') {
  return parseIntent(
    `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }, { name: blue, table: 200 }]
gateways:
  - { name: edge1, underlay: { device: eth0, address: 192.0.2.1 }, ports: [{ name: in, kind: internal, device: eth1, vrf: red, classify: true }] }
  - { name: edge2, underlay: { device: eth0, address: 192.0.2.2 }, ports: [{ name: in, kind: internal, device: eth1, vrf: ${vrfOfEdge2}, classify: true }] }
healthProfiles: [{ name: fast, bfd: {} }]
services: [{ name: ids }]
nodes: [{ name: svm, service: ids, health: fast, attach: { ${attach} } }]
`,
    'f.yaml',
  );
}

function warningsOf(attach: string, vrf?: string): string[] {
  const result = parse(attach, vrf);
  if (!result.ok) throw new Error(result.problems.map(formatProblem).join('\n'));
  return result.warnings.map(formatProblem);
}

describe('a node that one gateway alone can use', () => {
  it.each([
    ['l2pair', PAIR],
    ['l3', ROUTER],
  ])('%s: another gateway in its VRF will take none of its flows over', (kind, attach) => {
    expect(warningsOf(attach)).toEqual([
      expect.stringMatching(
        new RegExp(
          `^f.yaml:8:\\d+: nodes\\[0\\].attach.gateway: "edge1" is the only gateway of this ${kind}: flows through it end with that gateway; edge2 has a port in the same VRF and takes none of them over; attach the node by a tunnel`,
        ),
      ),
    ]);
  });

  it('is said of no node where nobody could take its flows over, nor of one that all gateways reach', () => {
    expect(warningsOf(PAIR, 'blue')).toEqual([]);
    expect(warningsOf(ROUTER, 'blue')).toEqual([]);
    expect(warningsOf(TUNNEL)).toEqual([]);
  });

  it.each([
    ['l2pair', PAIR],
    ['l3', ROUTER],
  ])('%s with several gateways is refused, saying why', (kind, attach) => {
    const result = parse(attach.replace('gateway: edge1', 'gateways: [edge1, edge2]'));
    expect(result.ok ? [] : result.problems.map(formatProblem)).toContainEqual(
      expect.stringContaining(
        `"gateways" is no key of this document; write gateway, with one name: an ${kind} belongs to one gateway, and its flows end with it`,
      ),
    );
  });
});
