// SPDX-License-Identifier: Apache-2.0
/** The Internet checksum (RFC 1071) and the pseudo-headers of IPv4 and IPv6 (RFC 9293 3.1, RFC 8200 8.1). */
import { ipToBytes } from './address.js';
import { viewOf } from './bytes.js';

/** Ones' complement sum of 16-bit words in network order, folded, not inverted; an odd last byte counts as the high one. */
export function onesSum(bytes: Uint8Array, start = 0): number {
  let sum = start;
  const view = viewOf(bytes);
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += view.getUint16(at);
  if (bytes.length % 2 === 1) sum += (bytes[bytes.length - 1] as number) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The inverted sum, as it stands in a header whose checksum field was 0 while summing. */
export function checksum(bytes: Uint8Array, start = 0): number {
  return ~onesSum(bytes, start) & 0xffff;
}

export interface Pseudo {
  readonly src: string;
  readonly dst: string;
  readonly protocol: number;
}

/** Sum of the pseudo-header; pass it as `start`. */
export function pseudoSum(pseudo: Pseudo, length: number): number {
  const sum = onesSum(ipToBytes(pseudo.src), onesSum(ipToBytes(pseudo.dst)));
  return sum + pseudo.protocol + (length & 0xffff) + (length >>> 16);
}
