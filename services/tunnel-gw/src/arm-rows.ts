// SPDX-License-Identifier: Apache-2.0
// Rows of what stands on a device with or without VLAN tags: nodes' arms and VLAN ports. Pure.
import { abi } from '@detour/contracts';
import type { Row } from './bank.js';
import type { ArmedNodeModel, ArmModel, GatewayModel, PortModel, VlanPort, VlanTags } from './model.js';
import { egressRow, linkOf, numberRow, type PortFields, portRow, portValue, tableOf } from './port-rows.js';
import { macBytes, u32Key } from './row-bytes.js';
import { BRANCH_HOPS, type RowInputs } from './rows.js';

const { DetourLimit: LIMIT } = abi;
const NO_MAC = new Uint8Array(6);

/** The port on one VLAN of a device, its veth pair for the stack, and the way out by it. */
export function vlanPortRows(inputs: RowInputs, port: PortModel, vlan: VlanPort, common: PortFields): Row[] {
  const what = `port ${port.name}`;
  const lower = linkOf(inputs, vlan.lower, what);
  const inner = linkOf(inputs, vlan.inner, what);
  const hop = BRANCH_HOPS + port.number;
  const fields = { ...common, vtiIfindex: inner.ifindex };
  return [
    portRow(lower.ifindex, { ...fields, mac: lower.mac }, vlan.tags),
    numberRow(port.number, portValue(fields)),
    portRow(inner.ifindex, {
      kind: abi.PortKind.PORT_LINK_INNER,
      number: port.number,
      vrf: port.vrf,
      table: tableOf(inputs, port.table),
      hop,
    }),
    egressRow(
      linkOf(inputs, port.device, what).ifindex,
      hop,
      port.snat === undefined ? undefined : port.number,
    ),
    directHopRow(hop, {
      ifindex: lower.ifindex,
      node: 0,
      mtu: lower.mtu,
      kind: abi.HopKind.HOP_VLAN,
      dmac: NO_MAC,
      smac: NO_MAC,
      tags: vlan.tags,
    }),
  ];
}

/** Untagged frames of a device that has VLANs only are the stack's. */
export function trunkRows(inputs: RowInputs, trunks: ReadonlySet<string>, taken: ReadonlySet<number>): Row[] {
  return [...trunks].flatMap((device) => {
    const link = inputs.links.get(device);
    return link === undefined || taken.has(link.ifindex)
      ? []
      : [portRow(link.ifindex, { kind: abi.PortKind.PORT_NONE, tags: true })];
  });
}

export function armedNodeRows(inputs: RowInputs, node: ArmedNodeModel, trunks: ReadonlySet<string>): Row[] {
  const [uplink, inside] = node.arms;
  const oneArm = uplink.device === inside.device;
  const what = `node ${node.label}`;
  const fields = {
    kind: abi.TunnelKind.TUNNEL_TO_NODE,
    strictReturn: 1,
    node: node.number,
    vrf: node.vrf,
    port: 0,
    table: tableOf(inputs, node.table),
    deliverIfindex: linkOf(inputs, uplink.inner, what).ifindex,
    innerMac: macBytes(linkOf(inputs, uplink.device, what).mac),
    innerL3: 0,
    flags: 0,
  };
  const arms: [ArmModel, number, 'a' | 'b'][] = [
    [uplink, node.number, 'a'],
    [inside, node.number + LIMIT.DT_SECOND_ARM, 'b'],
  ];
  return [
    {
      table: 'node_tunnels',
      id: node.number,
      key: (bank) => u32Key(bank * LIMIT.DT_MAX_NODES + node.number),
      value: abi.tunnel.encode(fields),
    },
    ...arms.map(([arm, hop]) => armHopRow(inputs, node, arm, hop)),
    ...arms
      .slice(0, oneArm ? 1 : 2)
      .flatMap(([arm, hop, which]) =>
        armPortRows(inputs, node, arm, { hop, which: oneArm ? null : which, trunks }),
      ),
  ];
}

/** Where the node returns packets, and our side of the arm's veth pair. */
function armPortRows(
  inputs: RowInputs,
  node: ArmedNodeModel,
  arm: ArmModel,
  at: { readonly hop: number; readonly which: 'a' | 'b' | null; readonly trunks: ReadonlySet<string> },
): Row[] {
  const what = `node ${node.label}`;
  const lower = linkOf(inputs, arm.lower, what);
  const inner = linkOf(inputs, arm.inner, what);
  const port: PortFields = {
    kind: abi.PortKind.PORT_SERVICE,
    number: servicePort(inputs.model, arm),
    vrf: node.vrf,
    table: tableOf(inputs, node.table),
    vtiIfindex: inner.ifindex,
    mac: lower.mac,
    node: node.number,
    arm: at.which,
    tags: arm.tags.vlan === 0 && at.trunks.has(arm.lower),
  };
  return [
    portRow(lower.ifindex, port, arm.tags),
    portRow(inner.ifindex, {
      kind: abi.PortKind.PORT_LINK_INNER,
      vrf: node.vrf,
      table: port.table ?? 0,
      hop: at.hop,
    }),
  ];
}

/** The number of the port of kind service that the intent declares for this device and VLAN; 0 = none: counted with the rest. */
function servicePort(model: GatewayModel, arm: ArmModel): number {
  const found = model.servicePorts.find(
    ({ lower, tags }) => lower === arm.lower && tags.vlan === arm.tags.vlan && tags.outer === arm.tags.outer,
  );
  return found?.number ?? 0;
}

function armHopRow(inputs: RowInputs, node: ArmedNodeModel, arm: ArmModel, number: number): Row {
  const lower = linkOf(inputs, arm.lower, `node ${node.label}`);
  const mac = inputs.neighbour(arm.device, arm.nextHop);
  return directHopRow(number, {
    ifindex: lower.ifindex,
    node: node.number,
    mtu: mac === null ? 0 : lower.mtu,
    kind: node.kind === 'l2pair' ? abi.HopKind.HOP_L2 : abi.HopKind.HOP_L3,
    dmac: mac === null ? NO_MAC : macBytes(mac),
    smac: macBytes(lower.mac),
    tags: arm.tags,
  });
}

type DirectHop = Pick<abi.Hop, 'ifindex' | 'node' | 'mtu' | 'kind' | 'dmac' | 'smac'> & {
  readonly tags: VlanTags;
};

function directHopRow(number: number, { tags, ...fields }: DirectHop): Row {
  const header = new Uint8Array(LIMIT.DT_MAX_HEADER);
  abi.hopTags.write(tags, header.subarray(0, abi.hopTags.size));
  return {
    table: 'hops',
    id: number,
    key: (bank) => u32Key(bank * LIMIT.DT_MAX_HOPS + number),
    value: abi.hop.encode({
      tunnel: abi.TunnelProto.TUNNEL_NONE,
      headerLen: 0,
      outerL3: 0,
      outerIp6: 0,
      innerL3: 0,
      outerCsum: 0,
      flags: 0,
      typeAt: 0,
      patchAt: 0,
      header,
      ...fields,
    }),
  };
}
