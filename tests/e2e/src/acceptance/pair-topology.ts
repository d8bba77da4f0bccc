// SPDX-License-Identifier: Apache-2.0
/**
 * The lab of address pairs as data: for each VRF a host in the north (uplink) and one in the south (inside), and a bump in the wire
 * between two links of the gateway. All VRFs have the same addresses. The bump is the kernel's bridge, with filtering in nftables'
 * bridge family; it has no IP address.
 */
import type { LabSpec, LinkEnd, LinkSpec, NamespaceSpec } from '@detour/lab';
import { crowdMacs, crowdServer } from './crowd.js';

/** Names of devices at the gateway for the n-th VRF; `la` and `lb` of the first one when all share a trunk. */
export function edgeDevices(vrf: number): {
  readonly up: string;
  readonly inside: string;
  readonly la: string;
  readonly lb: string;
} {
  return { up: `up${vrf}`, inside: `in${vrf}`, la: `la${vrf}`, lb: `lb${vrf}` };
}

export interface PairPlace {
  readonly vrf: string;
  readonly index: number;
  readonly table: number;
  readonly north: string;
  readonly south: string;
  /** Namespace of the node. */
  readonly node: string;
}

export function pairPlace(vrf: string, index: number): PairPlace {
  return {
    vrf,
    index,
    table: 100 + index,
    north: `north-${vrf}`,
    south: `south-${vrf}`,
    node: `svm-${vrf}`,
  };
}

/** MACs of the members at the gateway. */
export const memberMacs = (index: number) => ({
  a: `02:00:00:0a:0${index}:01`,
  b: `02:00:00:0b:0${index}:01`,
});

export const pairAddresses = {
  edgeUnderlay: '192.0.2.1',
  management: '172.30.0.1',
  edgeManagement: '172.30.0.2',
  north: '10.1.0.10',
  south: crowdServer.address,
} as const;

export interface PairTopology {
  readonly vrfs: readonly string[];
  /** All pairs are VLANs on the first one's devices, behind one node. */
  readonly trunk?: boolean;
}

export function pairTopology({ vrfs, trunk = false }: PairTopology): LabSpec {
  const places = vrfs.map((vrf, index) => pairPlace(vrf, index));
  const nodes = trunk ? places.slice(0, 1) : places;
  const hosts = places.flatMap(({ north, south }): [string, NamespaceSpec][] => [
    [north, {}],
    [south, {}],
  ]);
  return {
    namespaces: {
      edge1: {
        routes: places.flatMap(({ index, table }) => {
          const { up, inside } = edgeDevices(index);
          return [
            { to: '10.1.0.0/24', dev: up, table },
            { to: '10.1.16.0/20', via: pairAddresses.north, dev: up, table },
            { to: '2001:db8:1::/64', dev: up, table },
            { to: '203.0.113.0/24', dev: inside, table },
            { to: '2001:db8:2::/64', dev: inside, table },
          ];
        }),
        neighbours: places.flatMap(({ index }) => {
          const { up, inside } = edgeDevices(index);
          return [
            { address: pairAddresses.north, mac: crowdMacs.client.ownMac, dev: up },
            { address: '2001:db8:1::10', mac: crowdMacs.client.ownMac, dev: up },
            { address: pairAddresses.south, mac: crowdMacs.server.ownMac, dev: inside },
            { address: '2001:db8:2::9', mac: crowdMacs.server.ownMac, dev: inside },
          ];
        }),
      },
      underlay: {},
      mgmt: { bridges: [{ name: 'br0', addresses: [`${pairAddresses.management}/24`] }] },
      ...Object.fromEntries(hosts),
      ...Object.fromEntries(nodes.map(({ node }) => [node, bump()])),
    },
    links: [
      ...places.flatMap(hostLinks),
      ...nodes.flatMap(nodeLinks),
      {
        a: { ns: 'edge1', device: 'eth0', addresses: [`${pairAddresses.edgeUnderlay}/24`], txOffload: 'off' },
        b: { ns: 'underlay', device: 'eth0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
      {
        a: { ns: 'edge1', device: 'mgmt0', addresses: [`${pairAddresses.edgeManagement}/24`] },
        b: { ns: 'mgmt', device: 'edge1', bridge: 'br0' },
      },
    ],
  };
}

/** A bridge without any address. */
const bump = (): NamespaceSpec => ({
  bridges: [{ name: 'br0' }],
  nft: nodeRules,
  sysctls: { 'net.ipv6.conf.all.disable_ipv6': 1, 'net.ipv6.conf.default.disable_ipv6': 1 },
});

/** Everything may cross; what does is counted by kind. */
const nodeRules = `table bridge node {
  counter probes { }
  counter steered { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    udp dport 3784 counter name probes accept
    ether type { ip, ip6 } counter name steered
  }
}`;

function hostLinks({ index, north, south }: PairPlace): LinkSpec[] {
  const { up, inside } = edgeDevices(index);
  const quiet = { txOffload: 'off' } as const;
  return [
    {
      a: { ...quiet, ns: north, device: 'eth0', mac: crowdMacs.client.ownMac, xdpPass: true },
      b: {
        ...quiet,
        ns: 'edge1',
        device: up,
        mac: crowdMacs.client.gatewayMac,
        addresses: ['10.1.0.1/24', '2001:db8:1::1/64'],
      },
    },
    {
      a: { ...quiet, ns: south, device: 'eth0', mac: crowdMacs.server.ownMac, xdpPass: true },
      b: {
        ...quiet,
        ns: 'edge1',
        device: inside,
        mac: crowdMacs.server.gatewayMac,
        addresses: ['203.0.113.1/24', '2001:db8:2::1/64'],
      },
    },
  ];
}

function nodeLinks({ index, node }: PairPlace): LinkSpec[] {
  const { la, lb } = edgeDevices(index);
  const end = (device: string): LinkEnd => ({
    ns: node,
    device,
    bridge: 'br0',
    txOffload: 'off',
    vlanOffload: 'off',
    xdpPass: true,
  });
  const macs = memberMacs(index);
  return [
    { a: { ns: 'edge1', device: la, mac: macs.a, txOffload: 'off' }, b: end('a') },
    { a: { ns: 'edge1', device: lb, mac: macs.b, txOffload: 'off' }, b: end('b') },
  ];
}
