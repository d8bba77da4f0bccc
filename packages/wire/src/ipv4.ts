// SPDX-License-Identifier: Apache-2.0
/** IPv4 headers (RFC 791), options as opaque bytes. */
import { ipv4FromBytes, ipv4ToBytes } from './address.js';
import { concatBytes, viewOf } from './bytes.js';
import { checksum } from './checksum.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const IP_PROTOCOL = { icmp: 1, tcp: 6, udp: 17, gre: 47, icmpv6: 58 } as const;

export interface Ipv4 {
  readonly src: string;
  readonly dst: string;
  readonly protocol: number;
  readonly ttl: number;
  /** DSCP and ECN, 8 bits. */
  readonly tos: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In units of 8 bytes. */
  readonly fragmentOffset: number;
  /** A multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
}

export type Ipv4Fields = Pick<Ipv4, 'src' | 'dst' | 'protocol'> & Partial<Ipv4>;

/** Header with a correct length and checksum, then the payload. Defaults: TTL 64, DF, id 0. */
export function buildIpv4(fields: Ipv4Fields, payload: Uint8Array): Uint8Array {
  const options = fields.options ?? new Uint8Array(0);
  const header = new Uint8Array(20 + options.length);
  const view = viewOf(header);
  view.setUint8(0, 0x40 | (header.length / 4));
  view.setUint8(1, fields.tos ?? 0);
  view.setUint16(2, header.length + payload.length);
  view.setUint16(4, fields.id ?? 0);
  const flags = ((fields.dontFragment ?? true) ? 0x4000 : 0) | (fields.moreFragments === true ? 0x2000 : 0);
  view.setUint16(6, flags | (fields.fragmentOffset ?? 0));
  view.setUint8(8, fields.ttl ?? 64);
  view.setUint8(9, fields.protocol);
  header.set(ipv4ToBytes(fields.src), 12);
  header.set(ipv4ToBytes(fields.dst), 16);
  header.set(options, 20);
  view.setUint16(10, checksum(header));
  return concatBytes(header, payload);
}

/** The payload ends where the total length says; what follows (Ethernet padding) is left out. */
export function parseIpv4(bytes: Uint8Array): Parsed<Layer<Ipv4>> {
  if (bytes.length < 20) return refuse('an IPv4 header is at least 20 bytes', bytes.length);
  const view = viewOf(bytes);
  const version = view.getUint8(0) >>> 4;
  if (version !== 4) return refuse('version 4', version);
  const headerLength = (view.getUint8(0) & 15) * 4;
  if (headerLength < 20 || headerLength > bytes.length)
    return refuse('header length within the packet', headerLength);
  const total = view.getUint16(2);
  if (total < headerLength || total > bytes.length) return refuse('total length within the packet', total);
  const sum = checksum(bytes.subarray(0, headerLength));
  if (sum !== 0) return refuse('a header sum of 0', sum);
  const fragment = view.getUint16(6);
  return accept({
    header: {
      src: ipv4FromBytes(bytes.subarray(12)),
      dst: ipv4FromBytes(bytes.subarray(16)),
      protocol: view.getUint8(9),
      ttl: view.getUint8(8),
      tos: view.getUint8(1),
      id: view.getUint16(4),
      dontFragment: (fragment & 0x4000) !== 0,
      moreFragments: (fragment & 0x2000) !== 0,
      fragmentOffset: fragment & 0x1fff,
      options: bytes.subarray(20, headerLength),
    },
    payload: bytes.subarray(headerLength, total),
  });
}
