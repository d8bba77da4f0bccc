// SPDX-License-Identifier: Apache-2.0
/** ICMP (RFC 792) and ICMPv6 (RFC 4443): type, code, the four bytes after the checksum, and the rest. */
import { concatBytes, viewOf } from './bytes.js';
import { checksum, pseudoSum } from './checksum.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const ICMP = {
  echoReply: 0,
  unreachable: 3,
  echo: 8,
  timeExceeded: 11,
  parameterProblem: 12,
} as const;
export const ICMPV6 = {
  unreachable: 1,
  tooBig: 2,
  timeExceeded: 3,
  parameterProblem: 4,
  echo: 128,
  echoReply: 129,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136,
} as const;

export interface Icmp {
  readonly type: number;
  readonly code: number;
  /** Echo: identifier in the upper 16 bits, sequence number in the lower; errors: unused or the MTU. */
  readonly rest: number;
}

/** With addresses it is ICMPv6, whose checksum covers the pseudo-header (RFC 4443 2.3). */
export function buildIcmp(
  header: Icmp,
  payload: Uint8Array,
  ipv6?: { readonly src: string; readonly dst: string },
): Uint8Array {
  const fixed = new Uint8Array(8);
  fixed[0] = header.type;
  fixed[1] = header.code;
  viewOf(fixed).setUint32(4, header.rest);
  const message = concatBytes(fixed, payload);
  const start = ipv6 === undefined ? 0 : pseudoSum({ ...ipv6, protocol: 58 }, message.length);
  viewOf(message).setUint16(2, checksum(message, start));
  return message;
}

/** The `rest` of an echo request or reply. */
export function echoRest(identifier: number, sequence: number): number {
  return ((identifier << 16) | sequence) >>> 0;
}

/** The checksum is not verified here: ICMPv6's needs the addresses. */
export function parseIcmp(bytes: Uint8Array): Parsed<Layer<Icmp>> {
  if (bytes.length < 8) return refuse('an ICMP header is 8 bytes', bytes.length);
  const view = viewOf(bytes);
  return accept({
    header: { type: view.getUint8(0), code: view.getUint8(1), rest: view.getUint32(4) },
    payload: bytes.subarray(8),
  });
}
