// SPDX-License-Identifier: Apache-2.0
// What the gateway's tables, and the nodes' programs, say of nodes that packets reach by MAC address.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { macToBytes } from '@detour/wire';
import { ARM_PLACES, type ArmedKind } from './arms.js';
import { type Devices, tunnelFields, u32 } from './edge-tables.js';
import { TABLE } from './lanes.js';

/** Tells the nodes' programs which arm is opposite, and the MACs of the way back. */
export function joinArms(object: BpfObject, node: Devices): void {
  for (const { arms } of Object.values(ARM_PLACES))
    for (const [here, there] of [arms, [...arms].reverse()]) {
      if (here === undefined || there === undefined) continue;
      const row = new Uint8Array(16);
      new DataView(row.buffer).setUint32(0, node.get(there.nodeDevice) ?? 0, true);
      row.set([...macToBytes(there.mac), ...macToBytes(there.nodeMac)], 4);
      object.map('arms').update(u32(node.get(here.nodeDevice) ?? 0), row);
    }
}

export interface ArmedNode {
  readonly number: number;
  readonly vrf: number;
  readonly kind: ArmedKind | 'vlans';
  /** Tag of both arms; 0: none. */
  readonly vlan: number;
}

/** Says where a row goes: into the edge's map of this name. */
export type PutRow = (map: string, key: Uint8Array, value: Uint8Array) => void;

/** Rows of a node in bank 0, without those of its arms' veth pairs. */
export function putArmedNode(put: PutRow, devices: Devices, node: ArmedNode): void {
  const { arms } = ARM_PLACES[node.kind];
  const [uplink, inside] = arms;
  const { PortFlag: flag, HopKind: kind, DetourLimit: limit } = abi;
  put('node_tunnels', u32(node.number), abi.tunnel.encode({ ...tunnelFields(node.number), vrf: node.vrf }));
  for (const [at, arm] of arms.entries()) {
    const ifindex = devices.get(arm.device) ?? 0;
    const armFlag = at === 0 ? flag.PORT_ARM_A : flag.PORT_ARM_B;
    const header = new Uint8Array(limit.DT_MAX_HEADER);
    abi.hopTags.write({ vlan: node.vlan, outer: 0 }, header.subarray(0, abi.hopTags.size));
    put(
      'ports',
      abi.portKey.encode({ ifindex, vlan: node.vlan, inner: 0, bank: 0 }),
      abi.port.encode({
        ...{ number: 0, vrf: node.vrf, table: TABLE, hop: 0, vtiIfindex: 0, node: node.number },
        kind: abi.PortKind.PORT_SERVICE,
        flags: uplink === inside ? 0 : armFlag,
        mac: macToBytes(arm.mac),
      }),
    );
    put(
      'hops',
      u32(node.number + at * limit.DT_SECOND_ARM),
      abi.hop.encode({
        ...{ ifindex, node: node.number, mtu: 1500, tunnel: 0, headerLen: 0, outerL3: 0, outerIp6: 0 },
        ...{ innerL3: 0, outerCsum: 0, flags: 0, typeAt: 0, patchAt: 0, header },
        kind: ARM_PLACES[node.kind].program === 'bump' ? kind.HOP_L2 : kind.HOP_L3,
        dmac: macToBytes(nextHopMac(node.kind, at)),
        smac: macToBytes(arm.mac),
      }),
    );
  }
}

/** Of a router its own arm's; through a bump, that of our other member. */
function nextHopMac(kind: ArmedNode['kind'], at: number): string {
  const { program, arms } = ARM_PLACES[kind];
  const [uplink, inside] = arms;
  if (program === 'router') return at === 0 ? uplink.nodeMac : inside.nodeMac;
  return at === 0 ? inside.mac : uplink.mac;
}
