// SPDX-License-Identifier: Apache-2.0
/**
 * A router with two arms behind a service node: what comes in by one arm it filters (nftables, connection tracking) and routes out of the other, to the
 * node's address there. The node itself forwards nothing.
 */

import { filterBetween, type ServiceNodeOptions } from './service-node.js';
import type { LabSpec, LinkSpec, NamespaceSpec } from './spec.js';
import { managementLink, underlayLink } from './standard-lab.js';

/** Devices and addresses on both ends of each arm; `in` is where packets of who began a flow enter. */
export const routerArms = {
  in: {
    device: 'arm0',
    own: '10.20.1.1',
    own6: 'fd00:20:1::1',
    far: 'a',
    router: '10.20.1.2',
    router6: 'fd00:20:1::2',
  },
  out: {
    device: 'arm1',
    own: '10.20.2.1',
    own6: 'fd00:20:2::1',
    far: 'b',
    router: '10.20.2.2',
    router6: 'fd00:20:2::2',
  },
} as const;

type RouterArm = (typeof routerArms)[keyof typeof routerArms];

/** Adds the namespace of a service node, and one of the router behind it, to the standard lab. */
export function withServiceRouter(
  spec: LabSpec,
  options: ServiceNodeOptions & { readonly router: string },
): LabSpec {
  const { name, router, underlay, management } = options;
  return {
    namespaces: { ...spec.namespaces, [name]: {}, [router]: routerNamespace(options.forbiddenPort ?? 8081) },
    links: [
      ...spec.links,
      underlayLink({ ns: name, addresses: [`${underlay}/24`] }, 1600),
      managementLink(name, management),
      armLink(name, router, routerArms.in),
      armLink(name, router, routerArms.out),
    ],
  };
}

function armLink(node: string, router: string, arm: RouterArm): LinkSpec {
  return {
    a: { ns: node, device: arm.device, addresses: [`${arm.own}/24`, `${arm.own6}/64`] },
    b: {
      ns: router,
      device: arm.far,
      addresses: [`${arm.router}/24`, `${arm.router6}/64`],
      txOffload: 'off',
      xdpPass: true,
    },
  };
}

function routerNamespace(forbiddenPort: number): NamespaceSpec {
  const ways = [
    { from: routerArms.in, to: routerArms.out, table: 1 },
    { from: routerArms.out, to: routerArms.in, table: 2 },
  ] as const;
  const devices = ['all', routerArms.in.far, routerArms.out.far];
  return {
    routes: ways.flatMap(({ to, table }) => [
      { to: 'default', via: to.own, dev: to.far, table },
      { to: '::/0', via: to.own6, dev: to.far, table },
    ]),
    rules: ways.flatMap(({ from, table }) => [
      { iif: from.far, table, priority: 100 },
      { iif: from.far, table, priority: 100, family: 6 as const },
    ]),
    sysctls: {
      'net.ipv4.ip_forward': 1,
      'net.ipv6.conf.all.forwarding': 1,
      ...Object.fromEntries(
        devices.flatMap((device) => [
          [`net.ipv4.conf.${device}.rp_filter`, 0],
          [`net.ipv4.conf.${device}.send_redirects`, 0],
        ]),
      ),
      'net.netfilter.nf_conntrack_tcp_loose': 0, // a connection in its middle is not picked up
    },
    nft: filterBetween({
      in: [routerArms.in.far],
      out: [routerArms.out.far],
      untracked: ['lo'],
      forbiddenPort,
    }),
  };
}
