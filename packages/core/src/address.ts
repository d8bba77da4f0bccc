// SPDX-License-Identifier: Apache-2.0
// IP addresses and prefixes as 16 bytes, an IPv4 one mapped as ::ffff:a.b.c.d (RFC 4291 2.5.5.2): one form in every table.
import { isIPv4, isIPv6 } from 'node:net';

/** 16 bytes, network order. */
export type AddressBytes = Uint8Array;

/** `bits` counts in the 128-bit mapped form: an IPv4 /24 has 120. */
export interface Prefix {
  readonly address: AddressBytes;
  readonly bits: number;
}

const V4_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

export function isMappedV4(address: AddressBytes): boolean {
  for (let i = 0; i < 12; i++) if (address[i] !== V4_PREFIX[i]) return false;
  return true;
}

/** Text to 16 bytes; null when it is no IPv4 or IPv6 address. */
export function parseAddress(text: string): AddressBytes | null {
  const out = new Uint8Array(16);
  if (isIPv4(text)) {
    out.set(V4_PREFIX);
    out.set(text.split('.').map(Number), 12);
    return out;
  }
  if (!isIPv6(text) || text.includes('%')) return null;
  let body = text;
  const tail = body.slice(body.lastIndexOf(':') + 1);
  if (isIPv4(tail)) {
    const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number);
    body = `${body.slice(0, body.length - tail.length)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [headText = '', tailText] = body.split('::');
  const head = headText === '' ? [] : headText.split(':');
  const end = tailText === undefined || tailText === '' ? [] : tailText.split(':');
  const gap = tailText === undefined ? 0 : 8 - head.length - end.length;
  const groups = [...head, ...Array<string>(gap).fill('0'), ...end];
  for (const [i, group] of groups.entries()) {
    const value = Number.parseInt(group, 16);
    out[2 * i] = value >> 8;
    out[2 * i + 1] = value & 0xff;
  }
  return out;
}

/** 16 bytes to the shortest text (RFC 5952); mapped IPv4 as dotted quad. */
export function formatAddress(address: AddressBytes): string {
  if (isMappedV4(address)) return `${address[12]}.${address[13]}.${address[14]}.${address[15]}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((address[i] ?? 0) << 8) | (address[i + 1] ?? 0));
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      bestStart = i;
      bestLength = length;
    }
  }
  const text = (part: number[]) => part.map((g) => g.toString(16)).join(':');
  if (bestStart < 0) return text(groups);
  return `${text(groups.slice(0, bestStart))}::${text(groups.slice(bestStart + bestLength))}`;
}

/** 'a.b.c.d/n', 'x::/n' or a bare address; null when malformed. Host bits are kept as given. */
export function parsePrefix(text: string): Prefix | null {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === null) return null;
  const v4 = isIPv4(slash < 0 ? text : text.slice(0, slash));
  const width = v4 ? 32 : 128;
  if (slash < 0) return { address, bits: 128 };
  const lengthText = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(lengthText)) return null;
  const length = Number(lengthText);
  if (length > width) return null;
  return { address, bits: v4 ? length + 96 : length };
}

export function formatPrefix(prefix: Prefix): string {
  const v4 = isMappedV4(prefix.address) && prefix.bits >= 96;
  return `${formatAddress(prefix.address)}/${v4 ? prefix.bits - 96 : prefix.bits}`;
}

/** The prefix with its host bits set to 0; itself when they are. */
export function maskPrefix(prefix: Prefix): Prefix {
  const { address, bits } = prefix;
  const keptOf = (i: number): number => 0xff00 >> Math.min(8, Math.max(0, bits - 8 * i));
  let set = 0;
  for (let i = bits >> 3; i < 16; i++) set |= (address[i] ?? 0) & ~keptOf(i) & 0xff;
  if (set === 0) return prefix;
  const out = Uint8Array.from(address);
  for (let i = bits >> 3; i < 16; i++) out[i] = (out[i] ?? 0) & keptOf(i) & 0xff;
  return { address: out, bits };
}

export function prefixContains(prefix: Prefix, address: AddressBytes): boolean {
  const whole = prefix.bits >> 3;
  for (let i = 0; i < whole; i++) if (prefix.address[i] !== address[i]) return false;
  const rest = prefix.bits & 7;
  if (rest === 0) return true;
  const mask = (0xff00 >> rest) & 0xff;
  return ((prefix.address[whole] ?? 0) & mask) === ((address[whole] ?? 0) & mask);
}

/** Byte order of two addresses: negative, 0 or positive. */
export function compareAddresses(x: AddressBytes, y: AddressBytes): number {
  for (let i = 0; i < 16; i++) {
    const d = (x[i] ?? 0) - (y[i] ?? 0);
    if (d !== 0) return d;
  }
  return 0;
}
