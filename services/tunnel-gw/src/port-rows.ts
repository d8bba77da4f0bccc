// SPDX-License-Identifier: Apache-2.0
// Rows of ports, by device and by number, and of ways out. Pure.
import { abi, ruleDeviceName } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { Row } from './bank.js';
import type { LinkState } from './devices.js';
import type { VlanTags } from './model.js';
import { macBytes, u32Key } from './row-bytes.js';

export interface PortFields {
  readonly kind: number;
  readonly number?: number;
  readonly vrf?: number;
  readonly table?: number;
  readonly classify?: boolean;
  /** What enters here comes from the inside. */
  readonly inside?: boolean;
  readonly hop?: number;
  readonly vtiIfindex?: number;
  /** Of the port's own device; absent behind a tunnel, where it is not checked. */
  readonly mac?: string;
  /** PORT_SERVICE: the node behind it, and which of its two arms this is. */
  readonly node?: number;
  readonly arm?: 'a' | 'b' | null;
  /** Rows of VLANs are on this device. */
  readonly tags?: boolean;
  /** What leaves here gets another source. */
  readonly snat?: boolean;
}

const ARM_FLAG = { a: abi.PortFlag.PORT_ARM_A, b: abi.PortFlag.PORT_ARM_B } as const;
const UNTAGGED: VlanTags = { vlan: 0, outer: 0 };

export function portValue(fields: PortFields): Uint8Array {
  return abi.port.encode({
    number: fields.number ?? 0,
    vrf: fields.vrf ?? 0,
    table: fields.table ?? 0,
    kind: fields.kind,
    flags:
      (fields.classify === true ? abi.PortFlag.PORT_CLASSIFY : 0) |
      (fields.inside === true ? abi.PortFlag.PORT_INSIDE : 0) |
      (fields.snat === true ? abi.PortFlag.PORT_SNAT : 0) |
      (fields.tags === true ? abi.PortFlag.PORT_TAGS : 0) |
      (fields.arm == null ? 0 : ARM_FLAG[fields.arm]),
    hop: fields.hop ?? 0,
    vtiIfindex: fields.vtiIfindex ?? 0,
    mac: fields.mac === undefined ? new Uint8Array(6) : macBytes(fields.mac),
    node: fields.node ?? 0,
  });
}

export function portRow(ifindex: number, fields: PortFields, tags: VlanTags = UNTAGGED): Row {
  const value = portValue(fields);
  const [vlan, inner] = tags.outer === 0 ? [tags.vlan, 0] : [tags.outer, tags.vlan];
  return {
    table: 'ports',
    id: vlan === 0 ? ifindex : `${ifindex}.${vlan}.${inner}`,
    key: (bank) => abi.portKey.encode({ ifindex, vlan, inner, bank }),
    value,
  };
}

/** The port's row again, by its number: where a held packet that comes back belongs. */
export function numberRow(number: number, value: Uint8Array): Row {
  return {
    table: 'port_numbers',
    id: number,
    key: (bank) => u32Key(bank * abi.DetourLimit.DT_MAX_PORTS + number),
    value,
  };
}

/** With `snat`: the port with SNAT by which it leaves; `hop` is then its VLAN's, or 0. */
export function egressRow(ifindex: number, hop: number, snat?: number): Row {
  return {
    table: 'egress',
    id: ifindex,
    key: (bank) => abi.egressKey.encode({ ifindex, bank }),
    value: u32Key(snat === undefined ? hop : abi.EgressFlag.EGRESS_SNAT | hop | snat),
  };
}

/** A VRF's routing table as the datapath wants it. */
export function tableOf(
  inputs: { readonly links: ReadonlyMap<string, LinkState>; readonly lookupByRules: boolean },
  table: number,
): number {
  if (!inputs.lookupByRules) return table;
  return linkOf(inputs, ruleDeviceName(table), `routing table ${table}`).ifindex;
}

/** @throws Fault `not_found` naming the device and what needs it. */
export function linkOf(
  { links }: { readonly links: ReadonlyMap<string, LinkState> },
  device: string,
  what: string,
): LinkState {
  const link = links.get(device);
  if (link === undefined) {
    throw new Fault(
      'not_found',
      `device ${device} of ${what} does not exist on this machine: create it, or correct the intent`,
    );
  }
  return link;
}
