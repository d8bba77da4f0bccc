// SPDX-License-Identifier: Apache-2.0
/**
 * The lab of the edge's act as data: two tenants with the same addresses behind one gateway, a firewall behind VXLAN, an IDS as a bump in
 * the wire, and a place for an appliance of a gateway load balancer.
 *
 *	red   client ── eth1 ┐            ┌ eth2 ── server          chain: firewall, then IDS
 *	                     ├── edge1 ───┤
 *	blue  client ── eth3 ┘            └ eth4 ── server          chain: the appliance
 */
import type { LabSpec, LinkEnd, NamespaceSpec } from '../../spec.js';
import { standardLab } from '../../standard-lab.js';

export const BLUE_TABLE = 200;
export const IDS = 'ids1';
export const APPLIANCE = { ns: 'app1', address: '192.0.2.31', healthPort: 8_080 } as const;
/** The IDS's links at the gateway. */
export const PAIR = { a: 'ids-a', b: 'ids-b' } as const;

const BLUE: Readonly<Record<string, string>> = {
  ...{ client: 'client-b', server: 'server-b' },
  ...{ eth1: 'eth3', eth2: 'eth4' },
};
const blue = (name: string): string => BLUE[name] ?? name;

export function edgeLab(): LabSpec {
  const red = standardLab({ firewalls: 1, clientAddresses: 1 });
  const { client = {}, server = {}, edge1 = {} } = red.namespaces;
  const tenant = red.links.filter(({ a }) => a.ns === 'client' || a.ns === 'server');
  const other = (end: LinkEnd): LinkEnd => ({
    ...end,
    ns: blue(end.ns),
    device: end.ns === 'edge1' ? blue(end.device) : end.device,
    mac: (end.mac ?? '').replace('02:', '06:'),
  });
  const routes = edge1.routes ?? [];
  return {
    namespaces: {
      ...red.namespaces,
      [blue('client')]: client,
      [blue('server')]: server,
      edge1: {
        ...edge1,
        routes: [
          ...routes,
          ...routes.map((route) => ({ ...route, dev: blue(route.dev ?? ''), table: BLUE_TABLE })),
        ],
      },
      [IDS]: bump,
      [APPLIANCE.ns]: {},
    },
    links: [
      ...red.links,
      ...tenant.map(({ a, b }) => ({ a: other(a), b: other(b) })),
      ...(['a', 'b'] as const).map((member) => ({
        a: { ns: 'edge1', device: PAIR[member], txOffload: 'off' as const },
        b: { ns: IDS, device: member, bridge: 'br0', txOffload: 'off' as const, xdpPass: true as const },
      })),
      {
        a: { ns: APPLIANCE.ns, device: 'eth0', addresses: [`${APPLIANCE.address}/24`], txOffload: 'off' },
        b: { ns: 'underlay', device: APPLIANCE.ns, bridge: 'br0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
    ],
  };
}

/** A bridge without any address: what crosses is counted, in the table `ids`. */
const bump: NamespaceSpec = {
  bridges: [{ name: 'br0' }],
  nft: `table bridge ids {
  counter north { }
  counter south { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip protocol tcp ip saddr 10.1.0.0/16 counter name north
    ip protocol tcp ip daddr 10.1.0.0/16 counter name south
  }
}`,
  sysctls: { 'net.ipv6.conf.all.disable_ipv6': 1, 'net.ipv6.conf.default.disable_ipv6': 1 },
};
