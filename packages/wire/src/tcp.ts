// SPDX-License-Identifier: Apache-2.0
/** TCP segments (RFC 9293), options as opaque bytes. */
import { concatBytes, viewOf } from './bytes.js';
import { checksum, type Pseudo, pseudoSum } from './checksum.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const TCP_FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;

export interface Tcp {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  /** Bits of TCP_FLAG. */
  readonly flags: number;
  readonly window: number;
  readonly options: Uint8Array;
}

export type TcpFields = Pick<Tcp, 'srcPort' | 'dstPort'> & Partial<Tcp>;

/** Default: a SYN. */
export function buildTcp(
  fields: TcpFields,
  payload: Uint8Array,
  addresses: { readonly src: string; readonly dst: string },
): Uint8Array {
  const options = fields.options ?? new Uint8Array(0);
  const header = new Uint8Array(20 + options.length);
  const view = viewOf(header);
  view.setUint16(0, fields.srcPort);
  view.setUint16(2, fields.dstPort);
  view.setUint32(4, fields.seq ?? 0);
  view.setUint32(8, fields.ack ?? 0);
  view.setUint8(12, (header.length / 4) << 4);
  view.setUint8(13, fields.flags ?? TCP_FLAG.syn);
  view.setUint16(14, fields.window ?? 65535);
  header.set(options, 20);
  const segment = concatBytes(header, payload);
  const pseudo: Pseudo = { ...addresses, protocol: 6 };
  viewOf(segment).setUint16(16, checksum(segment, pseudoSum(pseudo, segment.length)));
  return segment;
}

export function parseTcp(bytes: Uint8Array): Parsed<Layer<Tcp>> {
  if (bytes.length < 20) return refuse('a TCP header is at least 20 bytes', bytes.length);
  const view = viewOf(bytes);
  const headerLength = (view.getUint8(12) >>> 4) * 4;
  if (headerLength < 20 || headerLength > bytes.length)
    return refuse('a data offset within the packet', headerLength);
  return accept({
    header: {
      srcPort: view.getUint16(0),
      dstPort: view.getUint16(2),
      seq: view.getUint32(4),
      ack: view.getUint32(8),
      flags: view.getUint8(13),
      window: view.getUint16(14),
      options: bytes.subarray(20, headerLength),
    },
    payload: bytes.subarray(headerLength),
  });
}
