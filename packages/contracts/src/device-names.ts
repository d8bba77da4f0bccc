// SPDX-License-Identifier: Apache-2.0
// Names of the network devices that a gateway makes, derived from names and numbers of the intent, so that bfd, tunnel-gw and people agree.

const MAX_DEVICE_NAME = 15; // IFNAMSIZ - 1

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

/** The pair through which held packets go back into the datapath: tunnel-gw writes to the first, the program runs on the second. */
export const INJECT_DEVICES = ['dt-inject', 'dt-injectx'] as const;

/** nftables table of the forwarding guard. */
export const GUARD_TABLE = 'detour_guard';
