// SPDX-License-Identifier: Apache-2.0
// From a gateway's model to the rows of its banked tables: ports, tunnels, own addresses, ways out, hops. Chains have theirs in
// chain-rows.ts. Pure: the same model, links and neighbours give the same bytes.
import { abi } from '@detour/contracts';
import { Fault, formatAddress } from '@detour/core';
import { armedNodeRows, trunkRows, vlanPortRows } from './arm-rows.js';
import type { Row } from './bank.js';
import type { LinkState } from './devices.js';
import { trunkDevices } from './gateway-devices.js';
import { type HopWay, hopRow } from './hop-rows.js';
import { type GatewayModel, isInside, type NodeModel, type PortModel, type TunnelModel } from './model.js';
import { egressRow, linkOf, numberRow, portRow, portValue, tableOf } from './port-rows.js';
import { addressBytes, macBytes, u32Key } from './row-bytes.js';
import { tunnelProto } from './tunnel-kind.js';

const { DetourLimit: LIMIT } = abi;

export interface RowInputs {
  readonly model: GatewayModel;
  readonly links: ReadonlyMap<string, LinkState>;
  readonly injectInner: string;
  /** The datapath knows a VRF's table by its rule device's ifindex, not by its id. */
  readonly lookupByRules: boolean;
  /** How outer packets for a tunnel's remote end leave, and the inner peer's MAC; null members while unresolved. */
  readonly wayTo: (remote: string, device: string, peer: string | null) => HopWay;
  /** The MAC of a neighbour; null while it is not resolved. */
  readonly neighbour: (device: string, address: string) => string | null;
}

/** Hop rows: of a node its number, to steer; of its VTI this offset more, which needs no inner peer (it carries the ARP that finds it). */
const VTI_HOPS = 4096;
/** Of a branch VTI or a VLAN port: this offset and the port's number. */
export const BRANCH_HOPS = 8192;

/**
 * All rows but those of chains.
 * @throws Fault `not_found` naming a device that does not exist; with `onMissing`, that is told instead, and the rows of what needs the
 * device are left out.
 */
export function baseRows(inputs: RowInputs, onMissing?: (missing: Fault) => void): Row[] {
  const { model } = inputs;
  const trunks = trunkDevices(model);
  const parts: (() => Row[])[] = [
    ...model.ports.map((port) => () => portRows(inputs, port, trunks)),
    ...model.nodes.map((node) => () => nodeRows(inputs, node)),
    ...model.armed.map((node) => () => armedNodeRows(inputs, node, trunks)),
    () => [underlayRow(inputs, trunks)],
    () => [roleRow(inputs, inputs.injectInner, 'the inject pair', abi.PortKind.PORT_INJECT)],
  ];
  const rows = parts.flatMap((part) => {
    try {
      return part();
    } catch (error) {
      if (onMissing === undefined || !(error instanceof Fault) || error.code !== 'not_found') throw error;
      onMissing(error);
      return [];
    }
  });
  const taken = rows.filter((row) => row.table === 'ports' && typeof row.id === 'number');
  rows.push(...trunkRows(inputs, trunks, new Set(taken.map((row) => Number(row.id)))));
  rows.push(...ownRows(inputs));
  return rows;
}

function underlayRow(inputs: RowInputs, trunks: ReadonlySet<string>): Row {
  const { device } = inputs.model.underlay;
  const kind = abi.PortKind.PORT_UNDERLAY;
  return portRow(linkOf(inputs, device, 'the underlay').ifindex, { kind, tags: trunks.has(device) });
}

function roleRow(inputs: RowInputs, device: string, what: string, kind: number): Row {
  return portRow(linkOf(inputs, device, what).ifindex, { kind });
}

const PORT_KIND = {
  internal: abi.PortKind.PORT_INTERNAL,
  uplink: abi.PortKind.PORT_UPLINK,
  guest: abi.PortKind.PORT_GUEST,
  vti: abi.PortKind.PORT_VTI,
} as const;

function portRows(inputs: RowInputs, port: PortModel, trunks: ReadonlySet<string>): Row[] {
  const common = {
    number: port.number,
    vrf: port.vrf,
    table: tableOf(inputs, port.table),
    classify: port.classify,
    inside: isInside(port),
    kind: PORT_KIND[port.kind],
    snat: port.snat !== undefined,
  };
  if (port.tunnel === null) {
    if (port.vlan !== null) return vlanPortRows(inputs, port, port.vlan, common);
    const { ifindex, mac } = linkOf(inputs, port.device, `port ${port.name}`);
    const tags = trunks.has(port.device);
    return [
      portRow(ifindex, { ...common, mac, tags }),
      numberRow(port.number, portValue(common)),
      ...(port.snat === undefined ? [] : [egressRow(ifindex, 0, port.number)]),
    ];
  }
  const { tunnel } = port;
  const hop = BRANCH_HOPS + port.number;
  const inner = linkOf(inputs, tunnel.inner, `port ${port.name}`);
  const outside = linkOf(inputs, port.device, `port ${port.name}`);
  return [
    numberRow(port.number, portValue({ ...common, vtiIfindex: inner.ifindex })),
    portRow(inner.ifindex, {
      kind: abi.PortKind.PORT_VTI_INNER,
      number: port.number,
      vrf: port.vrf,
      table: common.table,
      hop,
    }),
    egressRow(outside.ifindex, hop),
    tunnelRow(inputs, tunnel, {
      kind: abi.TunnelKind.TUNNEL_TO_VTI,
      strictReturn: 0,
      node: 0,
      vrf: port.vrf,
      port: port.number,
      table: common.table,
      deliverIfindex: inner.ifindex,
      innerMac: macBytes(tunnel.mac),
      innerL3: tunnel.l3 ? 1 : 0,
      flags: (port.classify ? abi.PortFlag.PORT_CLASSIFY : 0) | tunnelFlags(tunnel),
    }),
    hopRow(hop, 0, inputs.model.underlay.address, tunnel, inputs.wayTo(tunnel.remote, port.device, null)),
  ];
}

function nodeRows(inputs: RowInputs, node: NodeModel): Row[] {
  const inner = linkOf(inputs, node.inner, `node ${node.name}`);
  const outside = linkOf(inputs, node.device, `node ${node.name}`);
  const way = inputs.wayTo(node.remote, node.device, node.peer);
  const fields = {
    kind: abi.TunnelKind.TUNNEL_TO_NODE,
    strictReturn: node.strictReturn ? 1 : 0,
    node: node.number,
    vrf: node.vrf,
    port: 0,
    table: tableOf(inputs, node.table),
    deliverIfindex: inner.ifindex,
    innerMac: macBytes(node.mac),
    innerL3: node.l3 ? 1 : 0,
    flags: tunnelFlags(node),
  };
  return [
    portRow(inner.ifindex, {
      kind: abi.PortKind.PORT_VTI_INNER,
      vrf: node.vrf,
      table: fields.table,
      hop: VTI_HOPS + node.number,
    }),
    egressRow(outside.ifindex, VTI_HOPS + node.number),
    tunnelRow(inputs, node, fields),
    {
      table: 'node_tunnels',
      id: node.number,
      key: (bank) => u32Key(bank * LIMIT.DT_MAX_NODES + node.number),
      value: abi.tunnel.encode(fields),
    },
    hopRow(node.number, node.number, inputs.model.underlay.address, node, way),
    hopRow(VTI_HOPS + node.number, 0, inputs.model.underlay.address, node, way),
  ];
}

function tunnelFlags(tunnel: TunnelModel): number {
  if (tunnel.gwlb !== undefined) return abi.TunnelFlag.TUNNEL_COOKIE;
  if (tunnel.metadata !== undefined) return abi.TunnelFlag.TUNNEL_PATH;
  return tunnel.protocol === 'gre' && tunnel.checksum ? abi.TunnelFlag.TUNNEL_CHECKSUM : 0;
}

function tunnelRow(
  inputs: RowInputs,
  end: TunnelModel,
  fields: Parameters<typeof abi.tunnel.encode>[0],
): Row {
  const src = addressBytes(end.remote);
  const dst = addressBytes(inputs.model.underlay.address);
  return {
    table: 'tunnels',
    id: `${formatAddress(src)}/${formatAddress(dst)}/${end.protocol}/${end.tag ?? 'none'}`,
    key: (bank) => abi.tunnelKey.encode({ src, dst, vni: end.tag ?? 0, proto: tunnelProto(end), bank }),
    value: abi.tunnel.encode(fields),
  };
}

/** Addresses of this machine by VRF number, 0 being the underlay, and those that flows have outside. */
function ownRows({ model, links }: RowInputs): Row[] {
  const { OWN_LOCAL, OWN_SNAT, OWN_SNAT_SHARED } = abi.OwnFlag;
  const own = new Map<string, { vrf: number; addr: Uint8Array; as: number }>();
  const take = (vrf: number, address: string, as: number) => {
    const addr = addressBytes(address);
    const id = `${vrf}/${formatAddress(addr)}`;
    own.set(id, { vrf, addr, as: as | (own.get(id)?.as ?? 0) });
  };
  const takeDevice = (vrf: number, device: string) => {
    for (const cidr of links.get(device)?.addresses ?? [])
      take(vrf, cidr.slice(0, cidr.indexOf('/')), OWN_LOCAL);
  };
  takeDevice(0, model.underlay.device);
  take(0, model.underlay.address, OWN_LOCAL);
  for (const { vrf, device, snat, snatShared } of model.ports) {
    takeDevice(vrf, device);
    if (snat !== undefined) take(vrf, snat, snatShared === true ? OWN_SNAT | OWN_SNAT_SHARED : OWN_SNAT);
  }
  for (const node of model.nodes) takeDevice(node.vrf, node.device);
  for (const { vrf, arms } of model.armed) for (const arm of arms) takeDevice(vrf, arm.device);
  return [...own].map(([id, { vrf, addr, as }]) => ({
    table: 'own',
    id,
    key: (bank) => abi.ownKey.encode({ addr, vrf, bank }),
    value: u32Key(as),
  }));
}
