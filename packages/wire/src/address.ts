// SPDX-License-Identifier: Apache-2.0
/** MAC and IP addresses between text and the bytes of a header: 6 bytes a MAC, 4 bytes IPv4, 16 bytes IPv6. */
import { formatAddress, parseAddress } from '@detour/core';

/** 6 bytes of "02:00:00:00:00:01". @throws RangeError */
export function macToBytes(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new RangeError(`a MAC address is six pairs of hexadecimal digits with colons; got "${text}"`);
  }
  return Uint8Array.from(text.split(':'), (pair) => Number.parseInt(pair, 16));
}

export function macFromBytes(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The 16 bytes of an address in keys of the datapath: IPv4 as ::ffff:a.b.c.d. @throws RangeError */
export function ipToKeyBytes(text: string): Uint8Array {
  const bytes = parseAddress(text);
  if (bytes === null) throw new RangeError(`an IPv4 or IPv6 address is expected; got "${text}"`);
  return bytes;
}

/** 4 bytes of a dotted quad. @throws RangeError */
export function ipv4ToBytes(text: string): Uint8Array {
  const bytes = ipToKeyBytes(text);
  if (text.includes(':')) throw new RangeError(`an IPv4 address is expected, as 192.0.2.1; got "${text}"`);
  return bytes.subarray(12);
}

export function ipv4FromBytes(bytes: Uint8Array): string {
  return bytes.subarray(0, 4).join('.');
}

/** 16 bytes of an IPv6 address; a dotted quad becomes ::ffff:a.b.c.d. @throws RangeError */
export function ipv6ToBytes(text: string): Uint8Array {
  return ipToKeyBytes(text);
}

/** RFC 5952 text; an IPv4-mapped address becomes a dotted quad. */
export function ipv6FromBytes(bytes: Uint8Array): string {
  return formatAddress(bytes.subarray(0, 16));
}

/** 4 or 16 bytes, by the text's family. @throws RangeError */
export function ipToBytes(text: string): Uint8Array {
  return text.includes(':') ? ipv6ToBytes(text) : ipv4ToBytes(text);
}
