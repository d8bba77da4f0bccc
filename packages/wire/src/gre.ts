// SPDX-License-Identifier: Apache-2.0
/**
 * GRE (RFC 2784, with key and sequence number of RFC 2890); what it carries is an IP packet or an Ethernet frame.
 *
 *   |C| |K|S| Reserved0       | Ver |         Protocol Type         |
 *   |      Checksum (optional)      |       Reserved1 (Optional)    |
 *   |                         Key (optional)                        |
 *   |                 Sequence Number (optional)                    |
 */
import { concatBytes, viewOf } from './bytes.js';
import { checksum } from './checksum.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

/** Protocol type of an Ethernet frame inside; IP packets have their EtherTypes. */
export const GRE_ETHERNET = 0x6558;

export interface Gre {
  /** EtherType of what is inside. */
  readonly protocol: number;
  /** Header and payload are covered by a checksum. */
  readonly checksum: boolean;
  /** 32 bits. */
  readonly key?: number;
  /** 32 bits. */
  readonly sequence?: number;
}

const FLAG = { checksum: 0x8000, key: 0x2000, sequence: 0x1000 } as const;
/** Bits 1 to 5 without those of RFC 2890: set by RFC 1701's routing, which nobody here speaks (RFC 2784 2.3). */
const MUST_BE_ZERO = 0x4c00;

/** The header with the checksum filled in where asked for, then the payload. */
export function buildGre(header: Gre, payload: Uint8Array): Uint8Array {
  const { key, sequence } = header;
  const words = [header.checksum, key !== undefined, sequence !== undefined].filter(Boolean).length;
  const fixed = new Uint8Array(4 + words * 4);
  const view = viewOf(fixed);
  view.setUint16(
    0,
    (header.checksum ? FLAG.checksum : 0) |
      (key === undefined ? 0 : FLAG.key) |
      (sequence === undefined ? 0 : FLAG.sequence),
  );
  view.setUint16(2, header.protocol);
  let at = header.checksum ? 8 : 4;
  if (key !== undefined) {
    view.setUint32(at, key);
    at += 4;
  }
  if (sequence !== undefined) view.setUint32(at, sequence);
  const packet = concatBytes(fixed, payload);
  if (header.checksum) viewOf(packet).setUint16(4, checksum(packet));
  return packet;
}

/** A checksum that is there must be right. */
export function parseGre(bytes: Uint8Array): Parsed<Layer<Gre>> {
  if (bytes.length < 4) return refuse('a GRE header is at least 4 bytes', bytes.length);
  const view = viewOf(bytes);
  const flags = view.getUint16(0);
  if ((flags & 7) !== 0) return refuse('version 0', flags & 7);
  if ((flags & MUST_BE_ZERO) !== 0) return refuse('bits 1, 4 and 5 zero (RFC 2784 2.3)', flags);
  const has = {
    checksum: (flags & FLAG.checksum) !== 0,
    key: (flags & FLAG.key) !== 0,
    sequence: (flags & FLAG.sequence) !== 0,
  };
  const length = 4 + Object.values(has).filter(Boolean).length * 4;
  if (length > bytes.length) return refuse('a header within the packet', length);
  const sum = has.checksum ? checksum(bytes) : 0;
  if (sum !== 0) return refuse('a sum of 0', sum);
  const keyAt = has.checksum ? 8 : 4;
  const sequenceAt = has.key ? keyAt + 4 : keyAt;
  return accept({
    header: {
      protocol: view.getUint16(2),
      checksum: has.checksum,
      ...(has.key && { key: view.getUint32(keyAt) }),
      ...(has.sequence && { sequence: view.getUint32(sequenceAt) }),
    },
    payload: bytes.subarray(length),
  });
}
