// SPDX-License-Identifier: Apache-2.0
// The address side of rules as numbered elements: 0 is any, others are one prefix each, or one whole list where a rule's two
// lists would multiply into too many pairs.
import type { PrefixRow } from '@detour/contracts';
import { isMappedV4, prefixContains } from '@detour/core';
import { AddressIndex, prefixKey } from './address-index.js';

export const ANY_ELEMENT = 0;
/** A rule whose lists multiply to more pairs than this is kept as sets. */
const MAX_PAIRS_PER_RULE = 64;

/** Numbers the distinct elements of one field (sources or destinations) of many rules. */
export class ElementNumbers {
  readonly #numbers = new Map<number | string, number>();
  readonly #elements: (readonly PrefixRow[])[] = [[]];

  /** The number of the element that holds just this list. */
  numberOf(prefixes: readonly PrefixRow[]): number {
    const [only] = prefixes;
    const key =
      prefixes.length === 1 && only
        ? prefixKey(only)
        : prefixes
            .map((one) => `${prefixKey(one)}`)
            .sort()
            .join(' ');
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#elements.push(prefixes) - 1;
    this.#numbers.set(key, number);
    return number;
  }

  toIndex(): AddressIndex {
    return new AddressIndex(this.#elements);
  }
}

/** One rule's sources and destinations as element numbers, each list whole or one by one. */
export function ruleElements(
  sources: ElementNumbers,
  destinations: ElementNumbers,
  lists: { readonly sources: readonly PrefixRow[]; readonly destinations: readonly PrefixRow[] },
): { sources: number[]; destinations: number[] } {
  const from = outermost(lists.sources);
  const to = outermost(lists.destinations);
  const pairs = Math.max(1, from.length) * Math.max(1, to.length);
  const wholeFrom = pairs > MAX_PAIRS_PER_RULE && from.length >= to.length;
  const wholeTo = pairs > MAX_PAIRS_PER_RULE && (to.length > from.length || to.length > MAX_PAIRS_PER_RULE);
  return {
    sources: numbers(sources, from, wholeFrom),
    destinations: numbers(destinations, to, wholeTo),
  };
}

function numbers(field: ElementNumbers, prefixes: readonly PrefixRow[], whole: boolean): number[] {
  if (prefixes.length === 0) return [ANY_ELEMENT];
  return whole ? [field.numberOf(prefixes)] : prefixes.map((prefix) => field.numberOf([prefix]));
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
