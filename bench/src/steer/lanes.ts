// SPDX-License-Identifier: Apache-2.0
/**
 * The lanes that packets are sent along, as a lab: each is a way from the generator to the sink with something else in between.
 *
 *	none       generator ── sink                                              what making and counting packets costs
 *	empty      generator ── a program that drops                               what running a program costs
 *	reflector  generator ── node (XDP_TX) ── generator                        and what the node's part of a trip costs
 *	forwarder  generator ── XDP forwarder ── sink                             the least that an XDP router can do
 *	kernel     generator ── kernel router ── sink                             plain forwarding: no rule, no nftables
 *	way        generator ── kernel router ── node ── kernel router ── sink    nftables mark, ip rule, kernel VXLAN
 *	steer      generator ── detour_edge ── node ── detour_edge ── sink        the gateway
 *	tagged     the same gateway, by a device of which it knows VLANs alone
 *
 * A veth takes frames from XDP only if its peer runs an XDP program: kernel routers have one that passes where frames come in from the
 * generator (in0) and from the node (ul0). Sinks count in XDP in every lane.
 */
import type { LabSpec, LinkEnd, LinkSpec, NamespaceSpec } from '@detour/lab';
import { armLinkSpecs } from './arms.js';
import { DESTINATION } from './generator-protocol.js';

export const LANES = ['none', 'empty', 'reflector', 'forwarder', 'kernel', 'way', 'steer', 'tagged'] as const;
export type LaneName = (typeof LANES)[number];
const ROUTERS = ['forwarder', 'kernel', 'way', 'steer'] as const;
type Router = (typeof ROUTERS)[number];

export const GATEWAY_MAC = '02:00:00:00:01:01';
export const OUTSIDE_MAC = '02:00:00:00:01:02';
export const UNDERLAY_MAC = '02:00:00:00:01:03';
export const SINK_MAC = '02:00:00:00:02:01';
export const TABLE = 100;
export const UNDERLAY = '192.0.2.1';
/** A service node: the reflector, or a firewall that filters. */
export interface NodePlace {
  readonly number: number;
  readonly vni: number;
  /** The router's device towards it. */
  readonly device: string;
  readonly address: string;
  readonly mac: string;
  /** Source address of flow 0 of what is steered there, as a number. */
  readonly base: number;
  readonly innerMac: string;
}
export const REFLECTOR: NodePlace = {
  number: 1,
  vni: 4001,
  device: 'ul0',
  address: '192.0.2.11',
  mac: '02:00:00:00:03:11',
  base: 0x0a01_0001,
  innerMac: '02:00:00:00:04:11',
};
export const FIREWALL: NodePlace = {
  number: 2,
  vni: 4002,
  device: 'ul1',
  address: '192.0.2.12',
  mac: '02:00:00:00:03:12',
  base: 0x0a02_0001,
  innerMac: '02:00:00:00:04:12',
};
/** A node that changes nothing but who sent it: outer MACs and addresses. */
export const OUTER_REFLECTOR = {
  device: 'ul2',
  address: '192.0.2.13',
  mac: '02:00:00:00:03:13',
  innerMac: '02:00:00:00:04:13',
} as const;
/** Who is behind the sink, too: the inner end of flows with SNAT. */
export const SNAT_INNER = '203.0.113.10';
/** Inner MAC of the router's end of both tunnels. */
export const INNER_MAC = '02:00:00:00:05:01';

export const laneDevice = (lane: LaneName): string => `g-${lane}`;
/** A namespace per firewall: each lane with nodes has its own. */
export const firewallSpace = (router: 'way' | 'steer'): string => `fw-${router}`;

/** Quiet forwarding: no redirects, no reverse path filter in the way of asymmetric lanes. */
const forwarding = (devices: readonly string[]): Record<string, number> => ({
  'net.ipv4.ip_forward': 1,
  ...Object.fromEntries(
    ['all', 'default', ...devices].flatMap((device) => [
      [`net.ipv4.conf.${device}.rp_filter`, 0],
      [`net.ipv4.conf.${device}.send_redirects`, 0],
    ]),
  ),
});

export function laneLab(): LabSpec {
  const links: LinkSpec[] = [
    link({ ns: 'gen', device: laneDevice('none') }, { ns: 'sink', device: 's-none', mac: GATEWAY_MAC }),
    link({ ns: 'gen', device: laneDevice('empty') }, { ns: 'sink', device: 's-empty', mac: GATEWAY_MAC }),
    link({ ns: 'gen', device: laneDevice('reflector') }, { ns: 'node', device: 'n-alone', mac: GATEWAY_MAC }),
    ...ROUTERS.flatMap((router) => [
      link({ ns: 'gen', device: laneDevice(router) }, { ns: router, device: 'in0', mac: GATEWAY_MAC }),
      link(
        { ns: router, device: 'out0', mac: OUTSIDE_MAC },
        { ns: 'sink', device: `s-${router}`, mac: SINK_MAC },
      ),
    ]),
    ...(['way', 'steer'] as const).flatMap((router) => [
      link(underlayEnd(router, 'ul0', 1), { ns: 'node', device: `n-${router}`, mac: REFLECTOR.mac }),
      link(
        { ns: router, device: OUTER_REFLECTOR.device, mac: UNDERLAY_MAC },
        { ns: 'node', device: `o-${router}`, mac: OUTER_REFLECTOR.mac },
      ),
      link(underlayEnd(router, 'ul1', 2), {
        ns: firewallSpace(router),
        device: 'eth0',
        mac: FIREWALL.mac,
        addresses: [`${FIREWALL.address}/24`],
      }),
    ]),
    link({ ns: 'gen', device: laneDevice('tagged') }, { ns: 'steer', device: 'in1', mac: GATEWAY_MAC }),
    ...armLinkSpecs('steer', 'node'),
  ];
  return {
    links,
    namespaces: {
      gen: {},
      sink: {},
      node: {},
      forwarder: router(),
      kernel: router(),
      way: { ...router(['ul0', 'ul1', 'vx1', 'vx2']), ...wayByHand() },
      steer: router(['ul0', 'ul1']),
      'fw-way': firewall(),
      'fw-steer': firewall(),
    },
  };
}

function link(a: LinkEnd, b: LinkEnd): LinkSpec {
  return { a: { ...a, txOffload: 'off' }, b: { ...b, txOffload: 'off' }, mtu: 1600 };
}

function underlayEnd(ns: Router, device: string, index: number): LinkEnd {
  const mac = `${UNDERLAY_MAC.slice(0, -1)}${2 + index}`;
  return { ns, device, mac, ...(index === 1 ? { addresses: [`${UNDERLAY}/32`] } : {}) };
}

/** Routes to the sink, in the main table and in the VRF's; neighbours that never change. */
function router(more: readonly string[] = []): NamespaceSpec {
  const subnet = DESTINATION.address.replace(/[0-9]+$/, '0/24');
  const nodes = more.length === 0 ? [] : [REFLECTOR, FIREWALL];
  return {
    routes: [
      { to: subnet, dev: 'out0' },
      { to: subnet, dev: 'out0', table: TABLE },
      { to: '10.0.0.0/8', dev: 'in0' },
      { to: '10.0.0.0/8', dev: 'in0', table: TABLE },
      ...nodes.map(({ address, device }) => ({ to: `${address}/32`, dev: device, src: UNDERLAY })),
    ],
    neighbours: [
      ...[DESTINATION.address, SNAT_INNER].map((address) => ({ address, mac: SINK_MAC, dev: 'out0' })),
      ...nodes.map(({ address, mac, device }) => ({ address, mac, dev: device })),
    ],
    sysctls: forwarding(['in0', 'out0', ...more]),
  };
}

/** What an administrator builds: mark in nftables, a rule per mark, a routing table and a VXLAN device per node. */
function wayByHand(): Partial<NamespaceSpec> {
  const base = router(['ul0', 'ul1']);
  const nodes = [REFLECTOR, FIREWALL];
  return {
    vxlans: nodes.map((node) => ({
      name: `vx${node.number}`,
      vni: node.vni,
      local: UNDERLAY,
      remote: node.address,
      mtu: 1500,
      mac: INNER_MAC,
      addresses: [`169.254.${node.number}.1/30`],
    })),
    routes: [
      ...(base.routes ?? []),
      ...nodes.map((node) => ({
        to: 'default',
        via: `169.254.${node.number}.2`,
        dev: `vx${node.number}`,
        table: 200 + node.number,
      })),
    ],
    rules: nodes.map((node) => ({
      iif: 'in0',
      fwmark: node.number,
      table: 200 + node.number,
      priority: 100 + node.number,
    })),
    neighbours: [
      ...(base.neighbours ?? []),
      ...nodes.map((node) => ({
        address: `169.254.${node.number}.2`,
        mac: node.innerMac,
        dev: `vx${node.number}`,
      })),
    ],
    nft: `table ip steer {
  chain marking {
    type filter hook prerouting priority mangle; policy accept;
    iifname "in0" ip saddr 10.1.0.0/16 udp dport ${DESTINATION.port} meta mark set ${REFLECTOR.number}
    iifname "in0" ip saddr 10.2.0.0/16 udp dport ${DESTINATION.port} meta mark set ${FIREWALL.number}
  }
}`,
  };
}

/** A firewall as machines have them: the kernel's VXLAN device, connection tracking, a rule that lets the traffic through. */
function firewall(): NamespaceSpec {
  return {
    vxlans: [
      {
        name: 'vxlan0',
        vni: FIREWALL.vni,
        local: FIREWALL.address,
        remote: UNDERLAY,
        mtu: 1500,
        mac: FIREWALL.innerMac,
        addresses: ['169.254.2.2/30'],
      },
    ],
    routes: [
      { to: `${UNDERLAY}/32`, dev: 'eth0' },
      { to: 'default', via: '169.254.2.1', dev: 'vxlan0' },
    ],
    neighbours: [
      { address: '169.254.2.1', mac: INNER_MAC, dev: 'vxlan0' },
      { address: UNDERLAY, mac: `${UNDERLAY_MAC.slice(0, -1)}4`, dev: 'eth0' },
    ],
    sysctls: forwarding(['eth0', 'vxlan0']),
    nft: `table inet firewall {
  chain untracked_in {
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" notrack
  }
  chain untracked_out {
    type filter hook output priority raw; policy accept;
    oifname "eth0" notrack
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    ct state established,related accept
    udp dport ${DESTINATION.port} ct state new accept
  }
}`,
  };
}

/** The MAC of a router's device, as its lane's spec has it. */
export function underlayMac(node: NodePlace): string {
  return `${UNDERLAY_MAC.slice(0, -1)}${2 + node.number}`;
}
