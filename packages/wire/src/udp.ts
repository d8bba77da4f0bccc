// SPDX-License-Identifier: Apache-2.0
/** UDP datagrams (RFC 768). */
import { concatBytes, viewOf } from './bytes.js';
import { checksum, type Pseudo, pseudoSum } from './checksum.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export interface Udp {
  readonly srcPort: number;
  readonly dstPort: number;
  /** As it stands on the wire; 0 = none. */
  readonly checksum: number;
}

/** Without addresses the checksum is left 0, as tunnels do (RFC 6935 for IPv6). */
export function buildUdp(
  ports: { readonly srcPort: number; readonly dstPort: number },
  payload: Uint8Array,
  addresses?: { readonly src: string; readonly dst: string },
): Uint8Array {
  const header = new Uint8Array(8);
  const view = viewOf(header);
  view.setUint16(0, ports.srcPort);
  view.setUint16(2, ports.dstPort);
  view.setUint16(4, 8 + payload.length);
  const datagram = concatBytes(header, payload);
  if (addresses !== undefined) {
    const pseudo: Pseudo = { ...addresses, protocol: 17 };
    const sum = checksum(datagram, pseudoSum(pseudo, datagram.length));
    viewOf(datagram).setUint16(6, sum === 0 ? 0xffff : sum);
  }
  return datagram;
}

export function parseUdp(bytes: Uint8Array): Parsed<Layer<Udp>> {
  if (bytes.length < 8) return refuse('a UDP header is 8 bytes', bytes.length);
  const view = viewOf(bytes);
  const length = view.getUint16(4);
  if (length < 8 || length > bytes.length) return refuse('a length within the packet', length);
  return accept({
    header: { srcPort: view.getUint16(0), dstPort: view.getUint16(2), checksum: view.getUint16(6) },
    payload: bytes.subarray(8, length),
  });
}
