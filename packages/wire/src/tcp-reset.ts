// SPDX-License-Identifier: Apache-2.0
/**
 * The RSTs that end a connection for both of its ends, made from one segment that did not get through.
 *
 * To its sender, as if the port were closed (RFC 9293 3.10.7.1): the number that it acknowledged is the one that it expects next. To its
 * receiver in the sender's name: the segment's own number, and its acknowledgement, which an end that waits for SYN ACK must see
 * (RFC 9293 3.10.7.3). An end believes an RST with exactly the number that it expects (RFC 5961 3.2). No RST answers an RST.
 */
import { buildPacket } from './frame.js';
import { TCP_FLAG, type Tcp } from './tcp.js';

export interface Segment extends Pick<Tcp, 'srcPort' | 'dstPort' | 'seq' | 'ack' | 'flags'> {
  readonly src: string;
  readonly dst: string;
  /** Bytes of data. */
  readonly dataBytes: number;
}

const { fin, syn, rst, ack } = TCP_FLAG;

/** The IP packet for the segment's sender; null: it is an RST. */
export function resetForSender(segment: Segment): Uint8Array | null {
  const { src, dst, srcPort, dstPort, seq, flags } = segment;
  if ((flags & rst) !== 0) return null;
  const length = segment.dataBytes + ((flags & syn) === 0 ? 0 : 1) + ((flags & fin) === 0 ? 0 : 1);
  const numbers =
    (flags & ack) === 0
      ? { seq: 0, ack: (seq + length) >>> 0, flags: rst | ack }
      : { seq: segment.ack, ack: 0, flags: rst };
  const transport = { kind: 'tcp', srcPort: dstPort, dstPort: srcPort, window: 0, ...numbers } as const;
  return buildPacket({ src: dst, dst: src, transport });
}

/** The IP packet for the segment's receiver; null: it is an RST, or a SYN by which nobody there knows the connection yet. */
export function resetForReceiver(segment: Segment): Uint8Array | null {
  const { src, dst, srcPort, dstPort, seq, flags } = segment;
  if ((flags & rst) !== 0 || (flags & (syn | ack)) === syn) return null;
  const numbers =
    (flags & ack) === 0 ? { seq, ack: 0, flags: rst } : { seq, ack: segment.ack, flags: rst | ack };
  return buildPacket({ src, dst, transport: { kind: 'tcp', srcPort, dstPort, window: 0, ...numbers } });
}
