// SPDX-License-Identifier: Apache-2.0
/** VXLAN (RFC 7348 5): flags, VNI; the payload is an Ethernet frame. */
import { concatBytes, viewOf } from './bytes.js';
import { accept, type Layer, type Parsed, refuse } from './parsed.js';

export const VXLAN_PORT = 4789;

export interface Vxlan {
  /** 24 bits. */
  readonly vni: number;
}

export function buildVxlan(header: Vxlan, frame: Uint8Array): Uint8Array {
  const fixed = new Uint8Array(8);
  fixed[0] = 0x08;
  viewOf(fixed).setUint32(4, (header.vni << 8) >>> 0);
  return concatBytes(fixed, frame);
}

/** The I flag must be set; reserved fields are ignored on receipt. */
export function parseVxlan(bytes: Uint8Array): Parsed<Layer<Vxlan>> {
  if (bytes.length < 8) return refuse('a VXLAN header is 8 bytes', bytes.length);
  const view = viewOf(bytes);
  if ((view.getUint8(0) & 0x08) === 0) return refuse('the I flag set', view.getUint8(0));
  return accept({ header: { vni: view.getUint32(4) >>> 8 }, payload: bytes.subarray(8) });
}
