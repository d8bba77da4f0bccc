// SPDX-License-Identifier: Apache-2.0
// From a stored revision to one gateway's model. What this gateway cannot carry out is refused by name, and its old tables stay.
import {
  branchDeviceName,
  branchInnerDeviceName,
  GWLB_INNER_ADDRESS,
  tunnelMacAddress,
  vtiDeviceName,
  vtiInnerDeviceName,
} from '@detour/contracts';
import { Fault, hashKeyFromHex } from '@detour/core';
import {
  type Gateway,
  type Intent,
  type Numbers,
  nodeKey,
  type Port,
  pathKey,
  type Revision,
  type ServiceNode,
  steeredChains,
} from '@detour/intent';
import { armedNodeModels, servicePorts, vlanPort } from './desired-arms.js';
import type { AttachMode, GatewayModel, NodeModel, PortModel, TunnelModel, VrfModel } from './model.js';
import { UDP_PORTS } from './tunnel-kind.js';

/** @throws Fault `not_found` when the revision has no such gateway, `refused` naming what this gateway cannot do. */
export function gatewayModel(revision: Revision, gatewayName: string): GatewayModel {
  const { intent, numbers } = revision;
  const gateway = intent.gateways.find((row) => row.name === gatewayName);
  if (gateway === undefined) {
    throw new Fault(
      'not_found',
      `revision ${revision.revision} names no gateway ${gatewayName}: add it to gateways, or correct DETOUR_GATEWAY`,
    );
  }
  const vrfs = intent.vrfs.map(
    (vrf): VrfModel => ({
      name: vrf.name,
      table: vrf.table,
      number: numberOf(numbers.vrfs, vrf.name, 'vrf'),
    }),
  );
  const vrfOf = (name: string | undefined, what: string): VrfModel => {
    const vrf = vrfs.find((row) => row.name === name);
    if (vrf === undefined)
      throw new Fault(
        'refused',
        `${what} names VRF ${name}, which revision ${revision.revision} does not have`,
      );
    return vrf;
  };
  const underlayPort = gateway.ports.find(
    (port) => port.kind === 'underlay' && port.device === gateway.underlay.device,
  );
  const isShared: PortContext['isShared'] = (snat, vrf) =>
    intent.gateways.some(
      (other) =>
        other.name !== gatewayName &&
        other.ports.some((port) => 'snat' in port && port.snat === snat && port.vrf === vrf),
    );
  return {
    gateway: gatewayName,
    revision: revision.revision,
    hashKey: hashKeyFromHex(revision.selectionKey),
    alone: intent.gateways.length === 1,
    underlay: {
      device: gateway.underlay.device,
      address: gateway.underlay.address,
      attachMode: underlayPort === undefined ? 'auto' : attachModeOf(underlayPort, gatewayName),
    },
    vrfs,
    ports: gateway.ports.flatMap((port) => portModel(port, gateway, { numbers, vrfOf, isShared })),
    nodes: intent.nodes.flatMap((node) => nodeModel(node, gateway, intent, numbers, vrfOf)),
    servicePorts: servicePorts(gateway, numbers, vrfOf),
    armed: intent.nodes.flatMap((node) =>
      armedNodeModels({ node, gateway: gateway.name, intent, numbers, vrfOf }),
    ),
    pathNodes: pathNodes(revision),
    chainNames: namesByNumber(numbers.chains, (key) => key.slice(0, key.lastIndexOf('@'))),
    ruleNames: namesByNumber(numbers.rules),
  };
}

export type VrfOf = (name: string | undefined, what: string) => VrfModel;

export function numberOf(numbers: Readonly<Record<string, number>>, key: string, kind: string): number {
  const number = numbers[key];
  if (number === undefined)
    throw new Fault('invalid', `the revision has no number for ${kind} ${key}: apply the intent again`);
  return number;
}

function namesByNumber(
  numbers: Readonly<Record<string, number>>,
  nameOf = (key: string): string => key,
): Map<number, string> {
  return new Map(Object.entries(numbers).map(([key, number]) => [number, nameOf(key)]));
}

function pathNodes({ intent, numbers }: Revision): Map<number, readonly number[]> {
  const nodesOf = new Map<number, readonly number[]>();
  for (const { chain, paths } of steeredChains(intent)) {
    for (const path of paths) {
      const number = numbers.paths[pathKey(chain.name, path)];
      if (number === undefined) continue;
      const nodes = intent.nodes.filter(({ name }) => path.nodes.includes(name));
      nodesOf.set(
        number,
        path.nodes.map((name) => {
          const node = nodes.find((row) => row.name === name);
          return numberOf(numbers.nodes, node === undefined ? name : nodeKey(node, path.vrf), 'node');
        }),
      );
    }
  }
  return nodesOf;
}

function attachModeOf(port: Port, gateway: string): AttachMode {
  const mode = 'attachMode' in port ? port.attachMode : 'auto';
  if (mode === 'tc')
    throw new Fault(
      'refused',
      `port ${gateway}/${port.name}: attachMode tc is for hosts; use auto, native or generic at a gateway`,
    );
  return mode;
}

interface PortContext {
  readonly numbers: Numbers;
  readonly vrfOf: VrfOf;
  readonly isShared: (snat: string, vrf: string | undefined) => boolean;
}

function portModel(port: Port, gateway: Gateway, { numbers, vrfOf, isShared }: PortContext): PortModel[] {
  const what = `port ${gateway.name}/${port.name}`;
  if (port.kind === 'underlay') return [];
  if (port.kind === 'service') return []; // says which VRF the device is in; the node behind it brings the device itself
  const snat = 'snat' in port ? port.snat : undefined;
  if (snat?.includes(':') === true)
    throw new Fault(
      'refused',
      `${what}: snat ${snat} is no IPv4 address, and IPv6 is not translated: give one, or none`,
    );
  const number = numberOf(numbers.ports, `${gateway.name}/${port.name}`, 'port');
  const vrf = vrfOf(port.vrf, what);
  const base = { name: port.name, number, vrf: vrf.number, table: vrf.table, classify: port.classify };
  if (port.kind !== 'vti') {
    const vlan = vlanPort(port, number);
    return [
      {
        ...base,
        kind: port.kind,
        device: vlan?.device ?? port.device,
        attachMode: attachModeOf(port, gateway.name),
        tunnel: null,
        vlan: vlan?.port ?? null,
        ...(snat !== undefined && { snat }),
        ...(snat !== undefined && isShared(snat, port.vrf) && { snatShared: true as const }),
      },
    ];
  }
  const tunnel = tunnelModel(port.tunnel, what);
  return [
    {
      ...base,
      kind: 'vti',
      device: branchDeviceName(port.name, number),
      attachMode: 'auto',
      tunnel: {
        ...tunnel,
        inner: branchInnerDeviceName(number),
        mac: tunnelMacAddress(gateway.underlay.address),
        addresses: port.addresses,
      },
      vlan: null,
    },
  ];
}

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

function tunnelModel(tunnel: Tunnel, what: string): TunnelModel {
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

function nodeModel(
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
