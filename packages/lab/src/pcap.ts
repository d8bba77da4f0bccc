// SPDX-License-Identifier: Apache-2.0
/** Reads the classic pcap format (draft-ietf-opsawg-pcap), as tcpdump writes it; pure. */

export interface CapturedPacket {
  /** Wall clock, microseconds since 1970. */
  readonly timestampUs: number;
  /** The frame from its link-layer header on. */
  readonly bytes: Uint8Array;
  /** Length on the wire: more than `bytes` holds where the capture cut the packet short. */
  readonly wireLenBytes: number;
}

const headerBytes = 24;
const recordHeaderBytes = 16;
const magicMicroseconds = 0xa1b2c3d4;
const magicNanoseconds = 0xa1b23c4d;
const maxPacketBytes = 262_144; // tcpdump's own snapshot length

/**
 * @param file a capture that may still be growing: a record cut short at its end is left out.
 * @throws RangeError when it is no pcap file of this machine's byte order, or a length in it is beyond all bounds.
 */
export function parsePcap(file: Uint8Array): CapturedPacket[] {
  if (file.length < headerBytes) return [];
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const magic = view.getUint32(0, true);
  if (magic !== magicMicroseconds && magic !== magicNanoseconds) {
    throw new RangeError(`pcap: magic 0x${magic.toString(16)}: no little-endian pcap file`);
  }
  const fractionsPerUs = magic === magicNanoseconds ? 1_000 : 1;
  const packets: CapturedPacket[] = [];
  let at = headerBytes;
  while (at + recordHeaderBytes <= file.length) {
    const lenBytes = view.getUint32(at + 8, true);
    if (lenBytes > maxPacketBytes) throw new RangeError(`pcap: packet of ${lenBytes} bytes at offset ${at}`);
    const start = at + recordHeaderBytes;
    if (start + lenBytes > file.length) break;
    const timestampUs = view.getUint32(at, true) * 1e6 + view.getUint32(at + 4, true) / fractionsPerUs;
    const wireLenBytes = view.getUint32(at + 12, true);
    packets.push({ timestampUs, bytes: file.subarray(start, start + lenBytes), wireLenBytes });
    at = start + lenBytes;
  }
  return packets;
}
