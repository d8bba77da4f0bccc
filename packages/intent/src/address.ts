// SPDX-License-Identifier: Apache-2.0
/** Addresses and prefixes of a document: core's values with their family and, for comparisons, as ranges of numbers. */
import {
  type AddressBytes,
  formatAddress as formatBytes,
  isMappedV4,
  parseAddress as parseBytes,
  parsePrefix as parseBytesPrefix,
} from '@detour/core';

/** An address as a number: `value` is 0..2^32-1 for family 4 and 0..2^128-1 for family 6. */
export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** An address with a prefix length in bits of its family; host bits may be set (an interface address has them). */
export interface Prefix extends Address {
  readonly length: number;
}

/** All addresses from `lo` to `hi`, both included, of one family. */
export interface AddressRange {
  readonly family: 4 | 6;
  readonly lo: bigint;
  readonly hi: bigint;
}

const V4_MASK = 0xffffffffn;
const MAPPED = 0xffffn << 32n;

function toAddress(bytes: AddressBytes): Address {
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return isMappedV4(bytes) ? { family: 4, value: value & V4_MASK } : { family: 6, value };
}

function toBytes({ family, value }: Address): AddressBytes {
  const whole = family === 4 ? MAPPED | value : value;
  return Uint8Array.from({ length: 16 }, (_, i) => Number((whole >> BigInt(8 * (15 - i))) & 0xffn));
}

/** Parses an IPv4 or IPv6 address without zone; undefined when it is none. An IPv4-mapped one is of family 4. */
export function parseAddress(text: string): Address | undefined {
  const bytes = parseBytes(text);
  return bytes === null ? undefined : toAddress(bytes);
}

/** Parses `ADDRESS/LENGTH`, or a bare address as a prefix of its full length; undefined when it is none. */
export function parsePrefix(text: string): Prefix | undefined {
  const prefix = parseBytesPrefix(text);
  if (prefix === null) return undefined;
  const address = toAddress(prefix.address);
  // A mapped address with less than the 96 mapping bits names neither an IPv4 nor a useful IPv6 network.
  if (address.family === 4 && prefix.bits < 96) return undefined;
  return { ...address, length: address.family === 4 ? prefix.bits - 96 : prefix.bits };
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

/** The one canonical text of an address: dotted quad, or RFC 5952. */
export function formatAddress(address: Address): string {
  return formatBytes(toBytes(address));
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
