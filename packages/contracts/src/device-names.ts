// SPDX-License-Identifier: Apache-2.0
// Names of the network devices that a gateway makes, derived from names and numbers of the intent, so that bfd, tunnel-gw and people agree.

const MAX_DEVICE_NAME = 15; // IFNAMSIZ - 1

/** The operator's side of a node's VTI: `vti-<node>`, or `vti-n<number>` where the name is too long. */
/**
 * The gateway's own address inside the tunnel of a gwlb node, which has no inner addresses of its own: RFC 7600's dummy, which no host has. Echo
 * packets to ourselves carry it.
 */
export const GWLB_INNER_ADDRESS = '192.0.0.8';

export function vtiDeviceName(node: string, number: number): string {
  const name = `vti-${node}`;
  return name.length <= MAX_DEVICE_NAME ? name : `vti-n${number}`;
}

/** The operator's side of a branch VTI, a port of kind vti. */
export function branchDeviceName(port: string, number: number): string {
  const name = `vti-${port}`;
  return name.length <= MAX_DEVICE_NAME ? name : `vti-p${number}`;
}

/** The datapath's side of a node's VTI. */
export function vtiInnerDeviceName(number: number): string {
  return `dtn${number}`;
}

/** The datapath's side of a branch VTI. */
export function branchInnerDeviceName(number: number): string {
  return `dtp${number}`;
}

/**
 * The operator's side of a veth pair that stands for a node's arm (`a` faces the uplink, `b` the inside) or for a VLAN port (`v`):
 * `arm-<node>-a`, `vlan-<port>`; by number where the name is too long.
 */
export function linkDeviceName(of: string, number: number, which: 'a' | 'b' | 'v'): string {
  const name = which === 'v' ? `vlan-${of}` : `arm-${of}-${which}`;
  if (name.length <= MAX_DEVICE_NAME && !of.includes('@')) return name;
  return which === 'v' ? `vlan-p${number}` : `arm-n${number}-${which}`;
}

/** The datapath's side of it. */
export function linkInnerDeviceName(number: number, which: 'a' | 'b' | 'v'): string {
  return `dt${which}${number}`;
}

/** The pair through which held packets go back into the datapath: tunnel-gw writes to the first, the program runs on the second. */
export const INJECT_DEVICES = ['dt-inject', 'dt-injectx'] as const;

/** Stands for a routing table in `ip rule`, on kernels that cannot look a table up by its id. Nothing enters by it. */
export function ruleDeviceName(table: number): string {
  return `dtr${table}`;
}

export function isRuleDevice(device: string): boolean {
  return /^dtr\d+$/.test(device);
}

/** nftables table of the forwarding guard. */
export const GUARD_TABLE = 'detour_guard';

/** MAC address of the operator's side of a node's VTI: locally administered, from the node's number. */
export function vtiMacAddress(number: number): string {
  return `02:44:54:00:${hexByte(number >> 8)}:${hexByte(number)}`;
}

/** MAC address of the operator's side of a branch VTI, from its port number. */
export function branchMacAddress(number: number): string {
  return `02:44:54:01:${hexByte(number >> 8)}:${hexByte(number)}`;
}

function hexByte(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0');
}
