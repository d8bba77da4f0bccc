// SPDX-License-Identifier: Apache-2.0
// Names of the network devices that a gateway makes, derived from names and numbers of the intent, so that bfd, tunnel-gw and people agree.
import { Fault, isMappedV4, parseAddress } from '@detour/core';

const MAX_DEVICE_NAME = 15; // IFNAMSIZ - 1

/**
 * The gateway's own address inside the tunnel of a gwlb node, which has no inner addresses of its own: RFC 7600's dummy, which no host has. Echo
 * packets to ourselves carry it.
 */
export const GWLB_INNER_ADDRESS = '192.0.0.8';

/** The operator's side of a node's VTI: `vti-<node>`, or `vti-n<number>` where the name is too long. */
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

/**
 * MAC address of the operator's side of a gateway's tunnels: locally administered, from the gateway's underlay address. Several gateways meet
 * in a node's one tunnel device, whose forwarding table knows them by their MAC addresses; two tunnels of one gateway never meet.
 */
export function tunnelMacAddress(underlay: string): string {
  const address = parseAddress(underlay);
  if (address === null) throw new Fault('invalid', `underlay address ${underlay}: is no IP address`);
  const own = isMappedV4(address) ? address.subarray(12) : folded(address);
  return ['02:44', ...[...own].map(hexByte)].join(':');
}

/** Four bytes of sixteen (FNV-1a): neighbours of one prefix differ in them. */
function folded(address: Uint8Array): Uint8Array {
  const hash = address.reduce((sum, byte) => Math.imul(sum ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
  return Uint8Array.from([24, 16, 8, 0], (shift) => hash >>> shift);
}

function hexByte(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0');
}

/** Marks the routes by which a gateway tells its routing daemon that it may be announced (`proto` of ip-route(8)), so that no other is removed. */
export const MARKER_ROUTE_PROTOCOL = 221;
