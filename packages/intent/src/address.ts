// SPDX-License-Identifier: Apache-2.0
/** IP addresses and prefixes as text and as numbers: parsing, canonical form (RFC 5952) and ranges. */

/** An address as a number: `value` is 0..2^32-1 for family 4 and 0..2^128-1 for family 6. */
export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** An address with a prefix length in bits; host bits may be set (an interface address has them). */
export interface Prefix extends Address {
  readonly length: number;
}

/** All addresses from `lo` to `hi`, both included, of one family. */
export interface AddressRange {
  readonly family: 4 | 6;
  readonly lo: bigint;
  readonly hi: bigint;
}

const OCTET = /^(0|[1-9]\d{0,2})$/;
const GROUP = /^[0-9a-f]{1,4}$/i;

function parseV4(text: string): bigint | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    if (!OCTET.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

function parseGroups(text: string): bigint[] | undefined {
  if (text === '') return [];
  const groups: bigint[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (index === parts.length - 1 && part.includes('.')) {
      const v4 = parseV4(part);
      if (v4 === undefined) return undefined;
      groups.push(v4 >> 16n, v4 & 0xffffn);
    } else if (GROUP.test(part)) groups.push(BigInt(`0x${part}`));
    else return undefined;
  }
  return groups;
}

function parseV6(text: string): bigint | undefined {
  if (text.length > 45) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '');
  const tail = parseGroups(halves[1] ?? '');
  if (head === undefined || tail === undefined) return undefined;
  // An IPv4 part may only be the last one (RFC 4291 2.2).
  if (halves.length === 2 && (halves[0] ?? '').includes('.')) return undefined;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) return undefined;
  const groups = [...head, ...Array<bigint>(gap).fill(0n), ...tail];
  return groups.reduce((value, group) => (value << 16n) | group, 0n);
}

/** Parses an IPv4 or IPv6 address without zone; undefined when it is none. */
export function parseAddress(text: string): Address | undefined {
  if (text.includes(':')) {
    const value = parseV6(text);
    return value === undefined ? undefined : { family: 6, value };
  }
  const value = parseV4(text);
  return value === undefined ? undefined : { family: 4, value };
}

/** Parses `ADDRESS/LENGTH`, or a bare address as a prefix of its full length; undefined when it is none. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = address.family === 4 ? 32 : 128;
  if (slash < 0) return { ...address, length: bits };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > bits) return undefined;
  return { ...address, length: Number(digits) };
}

/** The addresses of the network that the prefix names; host bits are ignored. */
export function prefixRange(prefix: Prefix): AddressRange {
  const host = (1n << BigInt((prefix.family === 4 ? 32 : 128) - prefix.length)) - 1n;
  return { family: prefix.family, lo: prefix.value & ~host, hi: prefix.value | host };
}

/** The same prefix without host bits. */
export function networkOf(prefix: Prefix): Prefix {
  return { family: prefix.family, value: prefixRange(prefix).lo, length: prefix.length };
}

function formatV4(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => ((value >> shift) & 255n).toString()).join('.');
}

/** The longest run of two or more zero groups, the first of equals (RFC 5952 4.2.2, 4.2.3). */
function longestZeroRun(groups: readonly string[]): { start: number; length: number } {
  let best = { start: -1, length: 1 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (end < groups.length && groups[end] === '0') end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

function formatV6(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16),
  );
  const run = longestZeroRun(groups);
  if (run.start < 0) return groups.join(':');
  return `${groups.slice(0, run.start).join(':')}::${groups.slice(run.start + run.length).join(':')}`;
}

/** The one canonical text of an address: dotted quad, or RFC 5952. */
export function formatAddress(address: Address): string {
  return address.family === 4 ? formatV4(address.value) : formatV6(address.value);
}

/** The one canonical text of a prefix, always with its length. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix)}/${prefix.length}`;
}

/** True when the address lies in the network of the prefix. */
export function prefixContains(prefix: Prefix, address: Address): boolean {
  const range = prefixRange(prefix);
  return range.family === address.family && range.lo <= address.value && address.value <= range.hi;
}
