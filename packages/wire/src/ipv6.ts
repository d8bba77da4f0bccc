// SPDX-License-Identifier: Apache-2.0
/** The IPv6 fixed header and extension headers (RFC 8200). */
import { ipv6FromBytes, ipv6ToBytes } from './address.js';
import { concatBytes, viewOf } from './bytes.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const IPV6_HEADER = { hopByHop: 0, routing: 43, fragment: 44, destination: 60, none: 59 } as const;

export interface Ipv6 {
  readonly src: string;
  readonly dst: string;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly trafficClass: number;
  readonly flowLabel: number;
}

export type Ipv6Fields = Pick<Ipv6, 'src' | 'dst' | 'nextHeader'> & Partial<Ipv6>;

/** Default: hop limit 64. */
export function buildIpv6(fields: Ipv6Fields, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(40);
  const view = viewOf(header);
  view.setUint32(0, ((6 << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.flowLabel ?? 0)) >>> 0);
  view.setUint16(4, payload.length);
  view.setUint8(6, fields.nextHeader);
  view.setUint8(7, fields.hopLimit ?? 64);
  header.set(ipv6ToBytes(fields.src), 8);
  header.set(ipv6ToBytes(fields.dst), 24);
  return concatBytes(header, payload);
}

export function parseIpv6(bytes: Uint8Array): Parsed<Layer<Ipv6>> {
  if (bytes.length < 40) return refuse('an IPv6 header is 40 bytes', bytes.length);
  const view = viewOf(bytes);
  const first = view.getUint32(0);
  if (first >>> 28 !== 6) return refuse('version 6', first >>> 28);
  const length = view.getUint16(4);
  if (40 + length > bytes.length) return refuse('payload length within the packet', length);
  return accept({
    header: {
      src: ipv6FromBytes(bytes.subarray(8, 24)),
      dst: ipv6FromBytes(bytes.subarray(24, 40)),
      nextHeader: view.getUint8(6),
      hopLimit: view.getUint8(7),
      trafficClass: (first >>> 20) & 0xff,
      flowLabel: first & 0xfffff,
    },
    payload: bytes.subarray(40, 40 + length),
  });
}

/** A hop-by-hop, routing or destination-options header of `length` bytes (a multiple of 8), filled with Pad1, in front of the payload. */
export function buildIpv6Extension(nextHeader: number, length: number, payload: Uint8Array): Uint8Array {
  if (length < 8 || length % 8 !== 0)
    throw new RangeError(`an extension header is 8, 16, … bytes long; got ${length}`);
  const header = new Uint8Array(length);
  header[0] = nextHeader;
  header[1] = length / 8 - 1;
  return concatBytes(header, payload);
}

/** RFC 8200 4.5; the offset is in units of 8 bytes. */
export function buildIpv6Fragment(
  fields: {
    readonly nextHeader: number;
    readonly offset: number;
    readonly more: boolean;
    readonly id: number;
  },
  payload: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(8);
  header[0] = fields.nextHeader;
  viewOf(header).setUint16(2, (fields.offset << 3) | (fields.more ? 1 : 0));
  viewOf(header).setUint32(4, fields.id);
  return concatBytes(header, payload);
}
