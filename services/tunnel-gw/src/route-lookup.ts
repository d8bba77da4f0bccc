// SPDX-License-Identifier: Apache-2.0
// The way out of a VRF as `detour trace` tells it: the longest matching route of the VRF's Linux routing table.
import { formatAddress, isMappedV4, parsePrefix, prefixContains } from '@detour/core';
import { readIp } from '@detour/runtime';
import type { RouteAnswer } from './trace-answer.js';

interface RouteRow {
  readonly dst?: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly type?: string;
  readonly metric?: number;
}

/** Null when no route matches, or the best one refuses (unreachable, blackhole, prohibit). */
export async function lookUpRoute(
  table: number,
  dst: Uint8Array,
  mtuOf: (device: string) => number,
): Promise<RouteAnswer | null> {
  const v4 = isMappedV4(dst);
  const rows = await readIp<RouteRow>(v4 ? '-4' : '-6', 'route', 'show', 'table', String(table));
  let best: { row: RouteRow; bits: number } | null = null;
  for (const row of rows) {
    const text = row.dst ?? '';
    const prefix = parsePrefix(text === 'default' ? (v4 ? '0.0.0.0/0' : '::/0') : text);
    if (prefix === null || !prefixContains(prefix, dst)) continue;
    const better =
      best === null ||
      prefix.bits > best.bits ||
      (prefix.bits === best.bits && (row.metric ?? 0) < (best.row.metric ?? 0));
    if (better) best = { row, bits: prefix.bits };
  }
  if (best?.row.dev === undefined) return null;
  const { row } = best;
  return {
    device: row.dev ?? '',
    via: row.gateway ?? '',
    mtu: mtuOf(row.dev ?? ''),
    text: `${row.dst}${row.gateway === undefined ? '' : ` via ${row.gateway}`} matches ${formatAddress(dst)}`,
  };
}
