// SPDX-License-Identifier: Apache-2.0
// The address side of a rule as elements: one prefix each, or one whole list where a rule's two lists would multiply into too many pairs.
import type { PrefixRow } from '@detour/contracts';
import { isMappedV4, prefixContains } from '@detour/core';

/** A rule whose lists multiply to more pairs than this is kept as sets. */
export const MAX_PAIRS_PER_RULE = 64;

/** What one field of a rule needs: no elements means any. */
export interface FieldElements {
  /** Each with its prefixes; one, unless the whole list is one element. */
  readonly elements: readonly (readonly PrefixRow[])[];
}

/** One rule's sources and destinations as elements, each list whole or one by one. */
export function ruleElements(lists: {
  readonly sources: readonly PrefixRow[];
  readonly destinations: readonly PrefixRow[];
}): readonly [FieldElements, FieldElements] {
  const from = outermost(lists.sources);
  const to = outermost(lists.destinations);
  const pairs = Math.max(1, from.length) * Math.max(1, to.length);
  const wholeFrom = pairs > MAX_PAIRS_PER_RULE && from.length >= to.length;
  const wholeTo = pairs > MAX_PAIRS_PER_RULE && (to.length > from.length || to.length > MAX_PAIRS_PER_RULE);
  return [fieldElements(from, wholeFrom), fieldElements(to, wholeTo)];
}

function fieldElements(prefixes: readonly PrefixRow[], whole: boolean): FieldElements {
  if (prefixes.length === 0) return { elements: [] };
  return { elements: whole ? [prefixes] : prefixes.map((prefix) => [prefix]) };
}

/** The list without prefixes that lie in another of it. */
function outermost(prefixes: readonly PrefixRow[]): readonly PrefixRow[] {
  if (prefixes.length < 2) return prefixes;
  const seen: PrefixRow[] = [];
  const shorterFirst = [...prefixes].sort((x, y) => x.bits - y.bits);
  const keys = new Set<number | string>();
  for (const prefix of shorterFirst) {
    const inside = seen.length <= 64 && seen.some((outer) => covers(outer, prefix));
    const key = prefixKey(prefix);
    if (inside || keys.has(key)) continue;
    keys.add(key);
    seen.push(prefix);
  }
  return seen;
}

/** Whether every address that matches `inner` matches `outer`. ::/0 does not cover IPv4 (prefixMatches). */
function covers(outer: PrefixRow, inner: PrefixRow): boolean {
  if (outer.bits > inner.bits) return false;
  if (outer.bits < 96 && inner.bits >= 96 && isMappedV4(inner.address)) return false;
  return prefixContains(outer, inner.address);
}

/** An IPv4 prefix: mapped, and at least as long as the mapping itself. Others match IPv6 alone (prefixMatches). */
export function isV4(prefix: PrefixRow): boolean {
  return prefix.bits >= 96 && isMappedV4(prefix.address);
}

/** A value by which equal lists of prefixes are equal, whatever their order and host bits. */
export function elementKey(prefixes: readonly PrefixRow[]): number | string {
  const [only] = prefixes;
  if (prefixes.length === 1 && only !== undefined) return prefixKey(only);
  return prefixes
    .map((one) => `${prefixKey(one)}`)
    .sort()
    .join(' ');
}

/** A value by which equal prefixes are equal, whatever their host bits. */
function prefixKey(prefix: PrefixRow): number | string {
  const { address, bits } = prefix;
  if (isV4(prefix)) {
    const size = 2 ** (128 - bits);
    return Math.floor(wordAt(address, 12) / size) * size * 64 + (bits - 96);
  }
  let key = '';
  for (let word = 0; word < 4; word++) {
    const size = 2 ** (32 - Math.min(32, Math.max(0, bits - 32 * word)));
    key += `${Math.floor(wordAt(address, 4 * word) / size)}.`;
  }
  return `${key}/${bits}`;
}

function wordAt(address: Uint8Array, at: number): number {
  return (
    (((address[at] ?? 0) << 24) |
      ((address[at + 1] ?? 0) << 16) |
      ((address[at + 2] ?? 0) << 8) |
      (address[at + 3] ?? 0)) >>>
    0
  );
}
