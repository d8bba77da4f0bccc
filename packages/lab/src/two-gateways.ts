// SPDX-License-Identifier: Apache-2.0
/**
 * Two gateways side by side: a router on the clients' side and one on the servers' side spread flows over both (BGP, equal-cost multipath by
 * addresses and ports, each router for itself, so that many flows go out through one gateway and come back through the other), and the same
 * firewalls are attached to both. Each firewall sends a packet back to the gateway that it came from.
 */
import type { IntentDocument } from '@detour/intent';
import { firewallAddresses, firewallNamespace, firewallPeering } from './firewall-spec.js';
import { type FrrRouter, startFrr } from './frr.js';
import type { Lab } from './lab.js';
import type { LabSpec, LinkSpec } from './spec.js';
import type { GatewayPlace } from './stack-plan.js';
import { type StandardIntentOptions, standardIntent } from './standard-intent.js';
import {
  managementLink,
  type StandardLabOptions,
  standardLab,
  standardTable,
  underlayLink,
} from './standard-lab.js';

const underlays = ['192.0.2.1', '192.0.2.2'] as const;
/** What each gateway announces while it steers: the next hop of all that goes through it. */
const markers = ['192.0.2.129', '192.0.2.130'] as const;
const AS = { inside: 65101, outside: 65102, gateways: 65100 } as const;

/** The routers, by side; their device towards the gateway at place 0 is `edge1`, and so on. */
const sides = {
  inside: { ns: 'rin', device: 'eth1', far: 'eth0', block: 1, network: '10.1.0.0/24', router: '10.1.0.1' },
  outside: {
    ...{ ns: 'rout', device: 'eth2', far: 'eth0', block: 2 },
    ...{ network: '203.0.113.0/24', router: '203.0.113.1' },
  },
} as const;
type Side = keyof typeof sides;

function peering(side: Side, place: number): { readonly gateway: string; readonly router: string } {
  const net = `10.0.${10 * sides[side].block + place}`;
  return { gateway: `${net}.1`, router: `${net}.2` };
}

/** As `startStack` takes them. */
export const twoGateways: readonly GatewayPlace[] = markers.map((announce, place) => ({
  ...{ name: `edge${place + 1}`, ns: `edge${place + 1}`, management: `172.30.0.${place + 2}`, announce },
  guardDevices: ['eth1', 'eth2'],
  routers: (['inside', 'outside'] as const).map((side) => {
    const { gateway, router } = peering(side, place);
    return `${sides[side].device}/${gateway}/${router}`;
  }),
}));

/** Bits of net.ipv4.fib_multipath_hash_fields. */
const ADDRESSES_AND_PORTS = 0x33;
const PROTOCOL = 4;

/** @throws Fault when an option is out of its range. */
export function twoGatewaysLab(options: StandardLabOptions = {}): LabSpec {
  const standard = standardLab(options);
  const count = options.firewalls ?? 2;
  const router = (fields: number) => ({
    sysctls: {
      'net.ipv4.ip_forward': 1,
      // What stands in the packet. Policy 1 would take the hash that a socket of this machine gave it, which changes when a SYN is sent again: no
      // router on a wire sees that.
      'net.ipv4.fib_multipath_hash_policy': 3,
      'net.ipv4.fib_multipath_hash_fields': fields,
      'net.ipv4.conf.all.ignore_routes_with_linkdown': 1,
    },
  });
  const firewalls = Object.fromEntries(
    Array.from({ length: count }, (_, i) => {
      const { bfd, daemons } = options;
      const daemon = daemons?.[i];
      const spec = { index: i + 1, gateways: underlays, ...(bfd && { bfd }), ...(daemon && { daemon }) };
      return [firewallAddresses(i + 1).name, firewallNamespace(spec)];
    }),
  );
  const [client, server, ...others] = standard.links;
  if (client === undefined || server === undefined) throw new TypeError('the standard lab has no sides');
  const far = (side: Side, link: LinkSpec): LinkSpec => {
    const { xdpPass: _, ...end } = link.a;
    const { ns, far: device, router: own } = sides[side];
    // The router stands where the one gateway of the standard lab stands
    return { a: end, b: { ns, device, addresses: [`${own}/24`], ...(link.b.mac && { mac: link.b.mac }) } };
  };
  return {
    namespaces: {
      ...standard.namespaces,
      ...firewalls,
      edge1: {},
      edge2: {},
      rin: router(ADDRESSES_AND_PORTS | PROTOCOL),
      rout: router(ADDRESSES_AND_PORTS), // otherwise than the other one: the hash is the same for both directions
    },
    links: [
      far('inside', client),
      far('outside', server),
      ...others.filter(({ a }) => a.ns !== 'edge1'),
      ...twoGateways.flatMap((gateway, place) => machineLinks(gateway, place, options.underlayMtu ?? 1600)),
    ],
  };
}

function machineLinks({ ns, management }: GatewayPlace, place: number, mtu: number): LinkSpec[] {
  const macOf = (link: number, end: number): string => `02:00:00:0${link}:0${place + 1}:0${end}`;
  const towards = (side: Side): LinkSpec => {
    const { gateway, router } = peering(side, place);
    const { block, device } = sides[side];
    return {
      a: { ns, device, mac: macOf(block, 1), addresses: [`${gateway}/30`], txOffload: 'off' },
      b: {
        ...{ ns: sides[side].ns, device: ns, mac: macOf(block, 2), addresses: [`${router}/30`] },
        ...{ txOffload: 'off', xdpPass: true },
      },
    };
  };
  return [
    towards('inside'),
    towards('outside'),
    underlayLink({ ns, mac: macOf(3, 1), addresses: [`${underlays[place]}/24`] }, mtu),
    managementLink(ns, management),
  ];
}

/** The standard intent with both gateways, and every node attached to both. */
export function twoGatewaysIntent(options: StandardIntentOptions = {}): IntentDocument {
  const standard = standardIntent(options);
  const [edge1] = standard.gateways ?? [];
  return {
    ...standard,
    gateways: twoGateways.map(({ name }, place) => ({
      ...edge1,
      name,
      underlay: { device: 'eth0', address: underlays[place] ?? '' },
    })),
    nodes: (standard.nodes ?? []).map((node, i) => ({
      ...node,
      attach: {
        ...node.attach,
        gateways: Object.fromEntries(
          twoGateways.map(({ name }, place) => {
            const { gateway, firewall } = firewallPeering(i + 1, place);
            return [name, { local: `${gateway}/30`, peer: firewall }];
          }),
        ),
      },
    })) as NonNullable<IntentDocument['nodes']>,
  };
}

export interface GatewayRouters {
  /** FRR by namespace: edge1, edge2, rin, rout. */
  readonly frr: ReadonlyMap<string, FrrRouter>;
  /** The machine vanishes from the network: every link of it goes down, as the other ends see it. */
  unplug(gateway: string): Promise<void>;
  plugIn(gateway: string): Promise<void>;
  /** FRR of a gateway whose daemons were killed. */
  startAgain(gateway: string): Promise<void>;
  /** The gateways over which a router spreads what is for the other side. */
  spreadOver(side: Side): Promise<string[]>;
}

/**
 * With the kernel's nexthop objects, zebra 8.4 does not take a next hop into a route again whose link was down and is up: the kernel removed
 * the object, zebra believes that it is there.
 */
const NO_NEXTHOP_OBJECTS = 'no zebra nexthop kernel enable\n';

/** Of bfdd on a router: how soon a gateway that says nothing any more is left. Half a second is later than a busy machine delays a packet. */
export const ROUTER_BFDD = [
  'bfd',
  ' profile gateways',
  '  detect-multiplier 5',
  '  transmit-interval 100',
  '  receive-interval 100',
  ' exit',
  'exit',
  '',
].join('\n');

/** BGP on the routers and the gateways: these pass the networks of one side to the other; `inside`: more networks of the clients' side. */
export async function startGatewayRouters(
  lab: Lab,
  more: { readonly inside?: readonly string[] } = {},
): Promise<GatewayRouters> {
  const frr = new Map<string, FrrRouter>();
  for (const side of ['inside', 'outside'] as const) {
    const { ns } = sides[side];
    const networks = side === 'inside' ? more.inside : [];
    frr.set(
      ns,
      await startFrr(lab, ns, routerBgpd(side, networks), { zebra: NO_NEXTHOP_OBJECTS, bfdd: ROUTER_BFDD }),
    );
  }
  const startGateway = async (ns: string): Promise<void> => {
    frr.set(ns, await startFrr(lab, ns, gatewayBgpd(twoGateways.findIndex((gateway) => gateway.ns === ns))));
  };
  for (const { ns } of twoGateways) await startGateway(ns);
  const set = async (gateway: string, state: 'up' | 'down'): Promise<void> => {
    const devices = ['eth0', 'eth1', 'eth2', 'mgmt0'];
    await lab.exec(gateway, ['ip', '-batch', '-'], {
      input: devices.map((device) => `link set dev ${device} ${state}\n`).join(''),
    });
  };
  return {
    frr,
    unplug: (gateway) => set(gateway, 'down'),
    plugIn: (gateway) => set(gateway, 'up'),
    startAgain: startGateway,
    async spreadOver(side) {
      const { ns } = sides[side];
      const to = sides[side === 'inside' ? 'outside' : 'inside'].network;
      const { stdout } = await lab.exec(ns, ['ip', '-j', 'route', 'show', to]);
      const routes = JSON.parse(stdout) as { dev?: string; nexthops?: { dev: string; flags: string[] }[] }[];
      return routes.flatMap(({ dev, nexthops }) =>
        dev === undefined
          ? (nexthops ?? []).filter(({ flags }) => !flags.includes('dead')).map((hop) => hop.dev)
          : [dev],
      );
    },
  };
}

/** Of the router on one side: both gateways are equally good, as long as their markers are there and they speak BFD. `more`: networks beside the side's own. */
export function routerBgpd(side: Side, more: readonly string[] = []): string {
  const { network, router } = sides[side];
  return bgpd({
    ...{ as: AS[side], id: router },
    neighbours: twoGateways.map((_, place) => [peering(side, place).gateway, AS.gateways]),
    each: (peer) => [` neighbor ${peer} disable-connected-check`, ` neighbor ${peer} bfd profile gateways`],
    global: [' no bgp network import-check'],
    family: [network, ...more].map((one) => `  network ${one}`),
  });
}

/** Of the gateway at this place: what it learns on one side it tells the other, by way of its marker, and the marker while that is there. */
export function gatewayBgpd(place: number): string {
  const marker = markers[place] ?? '';
  const neighbours = (['inside', 'outside'] as const).map(
    (side) => [peering(side, place).router, AS[side]] as const,
  );
  const after = [
    ...[`ip prefix-list marker seq 5 permit ${marker}/32`],
    ...['route-map vrf permit 10', ` set table ${standardTable}`, 'exit'],
    ...['route-map announce permit 10', ' match ip address prefix-list marker', 'exit'],
    ...['route-map announce permit 20', ` set ip next-hop ${marker}`, 'exit'],
  ];
  return bgpd({
    ...{ as: AS.gateways, id: underlays[place] ?? '', neighbours, after },
    global: [' bgp network import-check'],
    family: [
      `  network ${marker}/32`,
      ...neighbours.flatMap(([peer]) => [
        `  neighbor ${peer} route-map vrf in`,
        `  neighbor ${peer} route-map announce out`,
      ]),
    ],
  });
}

/** What a daemon speaks with whom. */
function bgpd(spec: {
  readonly as: number;
  readonly id: string;
  readonly neighbours: readonly (readonly [string, number])[];
  readonly each?: (peer: string) => readonly string[];
  readonly global: readonly string[];
  readonly family: readonly string[];
  readonly after?: readonly string[];
}): string {
  return [
    `router bgp ${spec.as}`,
    ` bgp router-id ${spec.id}`,
    ' no bgp ebgp-requires-policy',
    ...spec.global,
    ' bgp bestpath as-path multipath-relax',
    ...spec.neighbours.flatMap(([peer, remote]) => [
      ` neighbor ${peer} remote-as ${remote}`,
      ` neighbor ${peer} timers 1 3`,
      ` neighbor ${peer} timers connect 1`,
      ` neighbor ${peer} advertisement-interval 0`,
      ...(spec.each?.(peer) ?? []),
    ]),
    ' address-family ipv4 unicast',
    '  maximum-paths 2',
    ...spec.family,
    ' exit-address-family',
    'exit',
    ...(spec.after ?? []),
    '',
  ].join('\n');
}
