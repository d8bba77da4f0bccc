// SPDX-License-Identifier: Apache-2.0
// Nodes that are reached by tunnels, and tunnels themselves: from the intent to the model.
import { GWLB_INNER_ADDRESS, tunnelMacAddress, vtiDeviceName, vtiInnerDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { Gateway, Intent, Numbers, Port, ServiceNode } from '@detour/intent';
import { numberOf, type VrfOf } from './desired-numbers.js';
import type { NodeModel, TunnelModel, VrfModel } from './model.js';
import { UDP_PORTS } from './tunnel-kind.js';

type Gwlb = Extract<ServiceNode['attach'], { kind: 'gwlb' }>;

/** What every node behind a tunnel has, whatever goes around its packets. */
function tunnelNode(
  {
    node,
    number,
    vrf,
    gateway,
  }: {
    readonly node: ServiceNode;
    readonly number: number;
    readonly vrf: VrfModel;
    readonly gateway: Gateway;
  },
  intent: Intent,
) {
  const profile = intent.healthProfiles.find((row) => row.name === node.health);
  return {
    name: node.name,
    label: node.name,
    number,
    service: node.service,
    vrf: vrf.number,
    vrfName: vrf.name,
    table: vrf.table,
    device: vtiDeviceName(node.name, number),
    inner: vtiInnerDeviceName(number),
    mac: tunnelMacAddress(gateway.underlay.address),
    liveness: profile !== undefined,
    adminDownAction: profile?.adminDownAction ?? ('keep' as const),
  };
}

function gwlbModel(
  node: ServiceNode,
  attach: Gwlb,
  gateway: Gateway,
  intent: Intent,
  numbers: Numbers,
  vrfOf: VrfOf,
): NodeModel[] {
  if (!(attach.gateways ?? []).includes(gateway.name)) return [];
  const what = `node ${node.name}`;
  if (attach.udpPort !== UDP_PORTS.geneve)
    throw new Fault(
      'refused',
      `${what}: gwlb to UDP port ${attach.udpPort} is not supported by this release's datapath: use port ${UDP_PORTS.geneve}`,
    );
  const number = numberOf(numbers.nodes, node.name, 'node');
  const vrf = vrfOf(attach.vrf, what);
  return [
    {
      ...tunnelNode({ node, number, vrf, gateway }, intent),
      protocol: 'geneve',
      remote: attach.remote,
      tag: 0,
      l3: true,
      checksum: false,
      gwlb: { endpoint: vrf.number, attachment: number },
      strictReturn: true,
      local: `${GWLB_INNER_ADDRESS}/32`,
      peer: GWLB_INNER_ADDRESS,
    },
  ];
}

type Tunnel = Extract<Port, { kind: 'vti' }>['tunnel'] | Extract<ServiceNode['attach'], { kind: 'tunnel' }>;

export function tunnelModel(tunnel: Tunnel, what: string): TunnelModel {
  const { protocol, remote, checksum } = tunnel;
  if (protocol === 'gre')
    return { protocol, remote, tag: tunnel.key ?? null, l3: tunnel.inner === 'l3', checksum };
  const port = UDP_PORTS[protocol];
  if (tunnel.udpPort !== port)
    throw new Fault(
      'refused',
      `${what}: ${protocol} to UDP port ${tunnel.udpPort} is not supported by this release's datapath: use port ${port}`,
    );
  return {
    protocol,
    remote,
    tag: tunnel.vni,
    l3: protocol === 'geneve' && tunnel.inner === 'l3',
    checksum,
  };
}

/** None for a node that is attached elsewhere, or by its arms. */
export function nodeModel(
  node: ServiceNode,
  gateway: Gateway,
  intent: Intent,
  numbers: Numbers,
  vrfOf: VrfOf,
): NodeModel[] {
  const { attach } = node;
  const what = `node ${node.name}`;
  if ('gateway' in attach && attach.gateway !== gateway.name) return []; // at another gateway's devices
  if (attach.kind === 'l2pair' || attach.kind === 'l3') return [];
  if (attach.kind === 'gwlb') return gwlbModel(node, attach, gateway, intent, numbers, vrfOf);
  if (attach.kind !== 'tunnel')
    throw new Fault(
      'refused',
      `${what}: attach kind ${attach.kind} is not supported by this release's datapath: use tunnel, gwlb, l2pair or l3`,
    );
  const inner = attach.gateways[gateway.name];
  if (inner === undefined) return []; // this node is not attached here
  const number = numberOf(numbers.nodes, node.name, 'node');
  const vrf = vrfOf(attach.vrf, what);
  return [
    {
      ...tunnelNode({ node, number, vrf, gateway }, intent),
      ...tunnelModel(attach, what),
      ...('metadata' in attach &&
        attach.metadata && { metadata: { tenant: vrf.number, source: gateway.underlay.address } }),
      strictReturn: attach.strictReturn,
      local: inner.local,
      peer: inner.peer,
    },
  ];
}
