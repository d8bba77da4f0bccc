// SPDX-License-Identifier: Apache-2.0
// What a network must never be asked for, refused by text: each of these words is what somebody reads who wrote the line.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseIntent } from './parse.js';
import { formatProblem } from './problem.js';

const FULL = readFileSync(new URL('../samples/full.yaml', import.meta.url), 'utf8');
const INSIDE = 'device: eth1, vrf: red, classify: true, attachMode: auto }';

/** The problems of the sample with a text replaced, without the place of each. */
function refusalOf(from: string, to: string): string[] {
  expect(FULL, `the sample has no "${from}"`).toContain(from);
  const result = parseIntent(
    FULL.replace(from, () => to),
    'f.yaml',
  );
  return result.ok ? [] : result.problems.map((one) => formatProblem(one).replace(/^f\.yaml:\d+:\d+: /, ''));
}

const CASES: readonly (readonly [what: string, from: string, to: string, says: readonly string[]])[] = [
  [
    'a next hop outside the subnet of its pair',
    'nextHop: 10.10.10.2',
    'nextHop: 10.10.10.6',
    [
      'nodes[1].attach.vrfs.red.a.nextHop: "10.10.10.6" is not in the subnet 10.10.10.0/30 of the local address 10.10.10.1; choose a next hop in 10.10.10.0/30, or correct the local address',
    ],
  ],
  [
    'a next hop outside the subnet of a router’s arm',
    'nextHop: 10.20.0.2,',
    'nextHop: 10.20.0.9,',
    [
      'nodes[2].attach.nextHop: "10.20.0.9" is not in the subnet 10.20.0.0/29 of the local address 10.20.0.1; choose a next hop in 10.20.0.0/29, or correct the local address',
    ],
  ],
  [
    'the next hop back outside it',
    'nextHopBack: 10.20.0.3',
    'nextHopBack: 10.20.0.9',
    [
      'nodes[2].attach.nextHopBack: "10.20.0.9" is not in the subnet 10.20.0.0/29 of the local address 10.20.0.1; choose a next hop in 10.20.0.0/29, or correct the local address',
    ],
  ],
  [
    'a pair across two VRFs',
    INSIDE,
    `device: eth1, vrf: red, classify: true }
      - { name: la, kind: service, device: eth3, vlan: 100, vrf: red }
      - { name: lb, kind: service, device: eth4, vlan: 100, vrf: blue }`,
    [
      'nodes[1].attach.vrfs.red is a pair for VRF red, but eth3 is in VRF red and eth4 in VRF blue; put both members into the VRF of the pair',
    ],
  ],
  [
    'a service port told to classify',
    INSIDE,
    `device: eth1, vrf: red, classify: true }
      - { name: svc, kind: service, device: eth9, vrf: red, classify: true }`,
    [
      'gateways[0].ports[1].classify: true cannot be true on a port that faces a service: what comes back from a node must not be classified again; remove classify, or change the kind',
    ],
  ],
  [
    'nat without metadata',
    'nat: false',
    'nat: true',
    [
      'nodes[0].nat: true cannot be true with attach tunnel: a packet that returns with another 5-tuple could not be told to be of its flow; use an attach with metadata (gwlb, plane with nsh or qinq) or with ports of its own (l2pair, l3 with deviceBack)',
    ],
  ],
  [
    'an unknown policy',
    'action: { chain: inspect }',
    'action: { chain: nowhere }',
    [
      'rules[0].action.chain: "nowhere" names the chain "nowhere", which does not exist; known here: firewall-only, inspect',
    ],
  ],
  [
    'overlapping VNIs, of a node and a branch',
    'tunnel: { protocol: gre, remote: 203.0.113.7, key: 7 }',
    'tunnel: { protocol: vxlan, remote: 192.0.2.11, vni: 4001 }',
    [
      'nodes[0].attach: {"kind":"tunnel","vrf":"red","protocol":"vxlan","remote":"192.0.2.11","vni":400… is the same tunnel at edge1 as that of port "branch": vxlan 192.0.2.11 vni 4001; give one of them another remote, VNI or key',
    ],
  ],
  [
    'overlapping VNIs, of two appliances',
    'format: nsh }\n    health: fast',
    'format: nsh }\n    health: fast\n  - { name: ids4, service: ids, attach: { kind: gwlb, vrf: red, remote: 192.0.2.31 }, health: appliance }',
    [
      'nodes[5].attach.remote: "192.0.2.31" is at edge2 already that of node "ids2"; give each appliance an address of its own',
    ],
  ],
  [
    'a tunnel to itself, of a branch',
    'remote: 203.0.113.7',
    'remote: 192.0.2.1',
    [
      'gateways[0].ports[2].tunnel.remote: "192.0.2.1" is edge1\'s own underlay address: the tunnel would lead to itself; give the address of the other end',
    ],
  ],
  [
    'a tunnel to itself, of an appliance',
    'remote: 192.0.2.31',
    'remote: 192.0.2.2',
    [
      'nodes[3].attach.remote: "192.0.2.2" is edge2\'s own underlay address: the tunnel would lead to itself; give the address of the other end',
    ],
  ],
  [
    'the same node twice through one blind port',
    '[ firewall, { service',
    '[ firewall, firewall, { service',
    [
      'chains[0].hops[1]: "firewall" names the service "firewall" twice, and what its nodes return does not tell the two passes apart; name it once, or attach its nodes with metadata (gwlb, plane with nsh or qinq)',
    ],
  ],
];

describe('refused, and in these words', () => {
  it.each(CASES)('%s', (_what, from, to, says) => {
    expect(refusalOf(from, to)).toEqual(says);
  });
});
