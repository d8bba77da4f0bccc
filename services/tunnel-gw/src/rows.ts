// SPDX-License-Identifier: Apache-2.0
// From a gateway's model to the rows of its banked tables: ports, tunnels, own addresses, ways out, hops, paths, chains, selections.
// Pure: the same model, links and neighbours give the same bytes.
import { abi } from '@detour/contracts';
import { Fault, parseAddress } from '@detour/core';
import type { Row } from './bank.js';
import type { LinkState } from './devices.js';
import { type HopWay, hopRow } from './hop-rows.js';
import type { ChainModel, GatewayModel, NodeModel, PortModel } from './model.js';

const { DetourLimit: LIMIT } = abi;

export interface RowInputs {
  readonly model: GatewayModel;
  readonly links: ReadonlyMap<string, LinkState>;
  readonly injectInner: string;
  /** How outer packets for a tunnel's remote end leave, and the inner peer's MAC; null members while unresolved. */
  readonly wayTo: (remote: string, device: string, peer: string | null) => HopWay;
}

/** Hop rows: of a node its number, to steer; of its VTI this offset more, which needs no inner peer (it carries the ARP that finds it). */
const VTI_HOPS = 4096;
/** Of a branch VTI: this offset and the port's number. */
const BRANCH_HOPS = 8192;

/** All rows but those of chains. @throws Fault `not_found` naming a device that does not exist. */
export function baseRows(inputs: RowInputs): Row[] {
  const { model } = inputs;
  const rows: Row[] = [];
  for (const port of model.ports) rows.push(...portRows(inputs, port));
  for (const node of model.nodes) rows.push(...nodeRows(inputs, node));
  rows.push(
    portRow(inputs, linkOf(inputs, model.underlay.device, 'the underlay').ifindex, {
      kind: abi.PortKind.PORT_UNDERLAY,
    }),
  );
  rows.push(
    portRow(inputs, linkOf(inputs, inputs.injectInner, 'the inject pair').ifindex, {
      kind: abi.PortKind.PORT_INJECT,
    }),
  );
  for (const [vrf, address] of ownAddresses(inputs)) rows.push(ownRow(vrf, address));
  return rows;
}

function linkOf(inputs: RowInputs, device: string, what: string): LinkState {
  const link = inputs.links.get(device);
  if (link === undefined) {
    throw new Fault(
      'not_found',
      `device ${device} of ${what} does not exist on this machine: create it, or correct the intent`,
    );
  }
  return link;
}

interface PortFields {
  readonly kind: number;
  readonly number?: number;
  readonly vrf?: number;
  readonly table?: number;
  readonly classify?: boolean;
  readonly hop?: number;
  readonly vtiIfindex?: number;
  /** Of the port's own device; absent behind a tunnel, where it is not checked. */
  readonly mac?: string;
}

function portValue(fields: PortFields): Uint8Array {
  return abi.port.encode({
    number: fields.number ?? 0,
    vrf: fields.vrf ?? 0,
    table: fields.table ?? 0,
    kind: fields.kind,
    flags: fields.classify === true ? abi.PortFlag.PORT_CLASSIFY : 0,
    hop: fields.hop ?? 0,
    vtiIfindex: fields.vtiIfindex ?? 0,
    mac: fields.mac === undefined ? new Uint8Array(6) : macBytes(fields.mac),
  });
}

function portRow(_inputs: RowInputs, ifindex: number, fields: PortFields): Row {
  const value = portValue(fields);
  return {
    table: 'ports',
    id: ifindex,
    key: (bank) => abi.portKey.encode({ ifindex, vlan: 0, bank }),
    value,
  };
}

const PORT_KIND = {
  internal: abi.PortKind.PORT_INTERNAL,
  uplink: abi.PortKind.PORT_UPLINK,
  guest: abi.PortKind.PORT_GUEST,
  vti: abi.PortKind.PORT_VTI,
} as const;

function portRows(inputs: RowInputs, port: PortModel): Row[] {
  const common = {
    number: port.number,
    vrf: port.vrf,
    table: port.table,
    classify: port.classify,
    kind: PORT_KIND[port.kind],
  };
  if (port.tunnel === null) {
    const { ifindex, mac } = linkOf(inputs, port.device, `port ${port.name}`);
    return [portRow(inputs, ifindex, { ...common, mac }), numberRow(port.number, portValue(common))];
  }
  const { tunnel } = port;
  const hop = BRANCH_HOPS + port.number;
  const inner = linkOf(inputs, tunnel.inner, `port ${port.name}`);
  const outside = linkOf(inputs, port.device, `port ${port.name}`);
  return [
    numberRow(port.number, portValue({ ...common, vtiIfindex: inner.ifindex })),
    portRow(inputs, inner.ifindex, {
      kind: abi.PortKind.PORT_VTI_INNER,
      number: port.number,
      vrf: port.vrf,
      table: port.table,
      hop,
    }),
    egressRow(outside.ifindex, hop),
    tunnelRow(inputs, tunnel, {
      kind: abi.TunnelKind.TUNNEL_TO_VTI,
      strictReturn: 0,
      node: 0,
      vrf: port.vrf,
      port: port.number,
      table: port.table,
      deliverIfindex: inner.ifindex,
      innerMac: macBytes(tunnel.mac),
      innerL3: 0,
      flags: port.classify ? abi.PortFlag.PORT_CLASSIFY : 0,
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
    table: node.table,
    deliverIfindex: inner.ifindex,
    innerMac: macBytes(node.mac),
    innerL3: 0,
    flags: 0,
  };
  return [
    portRow(inputs, inner.ifindex, {
      kind: abi.PortKind.PORT_VTI_INNER,
      vrf: node.vrf,
      table: node.table,
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

/** The port's row again, by its number: where a held packet that comes back belongs. */
function numberRow(number: number, value: Uint8Array): Row {
  return {
    table: 'port_numbers',
    id: number,
    key: (bank) => u32Key(bank * LIMIT.DT_MAX_PORTS + number),
    value,
  };
}

function egressRow(ifindex: number, hop: number): Row {
  return {
    table: 'egress',
    id: ifindex,
    key: (bank) => abi.egressKey.encode({ ifindex, bank }),
    value: u32Key(hop),
  };
}

function tunnelRow(
  inputs: RowInputs,
  end: { remote: string; vni: number },
  fields: Parameters<typeof abi.tunnel.encode>[0],
): Row {
  const src = addressBytes(end.remote);
  const dst = addressBytes(inputs.model.underlay.address);
  return {
    table: 'tunnels',
    id: `${end.remote}/${end.vni}`,
    key: (bank) =>
      abi.tunnelKey.encode({ src, dst, vni: end.vni, proto: abi.TunnelProto.TUNNEL_VXLAN, bank }),
    value: abi.tunnel.encode(fields),
  };
}

/** Addresses of this machine by VRF number; 0 is the underlay. */
function ownAddresses(inputs: RowInputs): [number, string][] {
  const { model, links } = inputs;
  const out = new Map<string, [number, string]>();
  const take = (vrf: number, device: string) => {
    for (const cidr of links.get(device)?.addresses ?? []) {
      const address = cidr.slice(0, cidr.indexOf('/'));
      out.set(`${vrf}/${address}`, [vrf, address]);
    }
  };
  take(0, model.underlay.device);
  out.set(`0/${model.underlay.address}`, [0, model.underlay.address]);
  for (const port of model.ports) take(port.vrf, port.device);
  for (const node of model.nodes) take(node.vrf, node.device);
  return [...out.values()];
}

function ownRow(vrf: number, address: string): Row {
  const addr = addressBytes(address);
  return {
    table: 'own',
    id: `${vrf}/${address}`,
    key: (bank) => abi.ownKey.encode({ addr, vrf, bank }),
    value: u32Key(1),
  };
}

const ON_FAILURE = {
  drop: abi.OnFailure.ON_FAILURE_DROP,
  bypass: abi.OnFailure.ON_FAILURE_BYPASS,
  backup: abi.OnFailure.ON_FAILURE_BACKUP,
} as const;
const AFFINITY = {
  '5-tuple': abi.Affinity.AFFINITY_5_TUPLE,
  '3-tuple': abi.Affinity.AFFINITY_3_TUPLE,
  '2-tuple': abi.Affinity.AFFINITY_2_TUPLE,
  source: abi.Affinity.AFFINITY_SOURCE,
} as const;

/** The rows of one chain: itself, its selection and its paths. Chain 0 stands for flows without a chain. */
export function chainRows(chain: ChainModel): Row[] {
  const value = abi.chain.encode({
    gen: chain.gen,
    onFailure: ON_FAILURE[chain.onFailure],
    onNodeDown:
      chain.onNodeDown === 'keep' ? abi.OnNodeDown.ON_NODE_DOWN_KEEP : abi.OnNodeDown.ON_NODE_DOWN_REBALANCE,
    onRuleChange:
      chain.onRuleChange === 'keep'
        ? abi.OnRuleChange.ON_RULE_CHANGE_KEEP
        : abi.OnRuleChange.ON_RULE_CHANGE_REVALIDATE,
    affinity: AFFINITY[chain.affinity],
    valid: 1,
    nslots: chain.slots.length,
    backup: chain.backup,
  });
  const chainKey = (bank: number) => u32Key(bank * LIMIT.DT_MAX_CHAINS + chain.number);
  const rows: Row[] = [{ table: 'chains', id: chain.number, key: chainKey, value }];
  if (chain.slots.length > 0)
    rows.push({ table: 'selections', id: chain.number, key: chainKey, value: selectionValue(chain.slots) });
  for (const path of chain.paths) {
    const node = new Uint16Array(LIMIT.DT_MAX_PATH_HOPS);
    const hop = new Uint16Array(2 * LIMIT.DT_MAX_PATH_HOPS);
    node.set(path.nodes);
    hop.set(path.nodes);
    hop.set([...path.nodes].reverse(), LIMIT.DT_MAX_PATH_HOPS);
    const state = path.up ? abi.PathState.PATH_UP : abi.PathState.PATH_DOWN;
    rows.push({
      table: 'paths',
      id: path.number,
      key: (bank) => u32Key(bank * LIMIT.DT_MAX_PATHS + path.number),
      value: abi.path.encode({ chain: chain.number, state, nhops: path.nodes.length, node, hop }),
    });
  }
  return rows;
}

function selectionValue(slots: Uint16Array): Uint8Array {
  const value = new Uint8Array(abi.selection.size);
  value.set(new Uint8Array(slots.buffer, slots.byteOffset, slots.byteLength));
  return value;
}

export function u32Key(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':').map((part) => Number.parseInt(part, 16)));
}

/** @throws Fault `invalid` for text that is no address. */
export function addressBytes(text: string): Uint8Array {
  const bytes = parseAddress(text);
  if (bytes === null) throw new Fault('invalid', `${text} is no IPv4 or IPv6 address`);
  return bytes;
}
