// SPDX-License-Identifier: Apache-2.0
// Which maps have two banks, and where a row's bank stands.
import { abi } from '@detour/contracts';
import { Fault } from '@detour/core';

export const HASH_TABLES = new Set(['ports', 'tunnels', 'own', 'egress']);
/** Banked arrays: rows per bank. */
export const ARRAY_ROWS: Readonly<Record<string, number>> = {
  port_numbers: abi.DetourLimit.DT_MAX_PORTS,
  node_tunnels: abi.DetourLimit.DT_MAX_NODES,
  hops: abi.DetourLimit.DT_MAX_HOPS,
  paths: abi.DetourLimit.DT_MAX_PATHS,
  chains: abi.DetourLimit.DT_MAX_CHAINS,
};
/** Where the bank stands in each hash key. */
const BANK_OFFSET: Readonly<Record<string, { at: number; bytes: 1 | 2 | 4 }>> = {
  ports: { at: 6, bytes: 2 },
  tunnels: { at: 37, bytes: 1 },
  own: { at: 18, bytes: 2 },
  egress: { at: 4, bytes: 4 },
};

export function bankOfKey(table: string, key: Uint8Array): number {
  const place = BANK_OFFSET[table];
  if (place === undefined) throw new Fault('internal', `table ${table} has no bank in its key`);
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  if (place.bytes === 1) return view.getUint8(place.at);
  return place.bytes === 2 ? view.getUint16(place.at, true) : view.getUint32(place.at, true);
}
