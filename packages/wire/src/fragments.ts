// SPDX-License-Identifier: Apache-2.0
/** Fragmentation of IPv4 packets (RFC 791 3.2), as a gateway does it to one that is too big and may be cut. */
import { viewOf } from './bytes.js';
import { checksum } from './checksum.js';
import { parseIpv4 } from './ipv4.js';
import { accept, type Parsed, refuse } from './parsed.js';

const UNIT = 8;
const MORE = 0x2000;
const COPIED = 0x80; // of an option's type: it stands in every fragment (RFC 791 3.1)

/**
 * The packet, or a fragment of one, as fragments of at most `mtu` bytes, in order. One that fits is returned as it is.
 * Refused: DF, and an mtu that leaves no room behind the header.
 */
export function fragmentIpv4(packet: Uint8Array, mtu: number): Parsed<Uint8Array[]> {
  const parsed = parseIpv4(packet);
  if (!parsed.ok) return parsed;
  const { header, payload } = parsed.value;
  const headerLength = 20 + header.options.length;
  if (headerLength + payload.length <= mtu) return accept([packet.slice(0, headerLength + payload.length)]);
  if (header.dontFragment) return refuse('a packet that may be cut', 'DF');
  const room = Math.floor((mtu - headerLength) / UNIT) * UNIT;
  if (room < UNIT) return refuse(`an mtu of ${headerLength + UNIT} bytes at least`, mtu);
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += room) {
    const piece = payload.subarray(at, at + room);
    const options = at === 0 ? header.options : copiedOptions(header.options);
    const made = new Uint8Array(20 + options.length + piece.length);
    made.set(packet.subarray(0, 20));
    made.set(options, 20);
    made.set(piece, 20 + options.length);
    const view = viewOf(made);
    const more = at + room < payload.length || header.moreFragments;
    view.setUint8(0, 0x40 | ((20 + options.length) / 4));
    view.setUint16(2, made.length);
    view.setUint16(6, (more ? MORE : 0) | (header.fragmentOffset + at / UNIT));
    view.setUint16(10, 0);
    view.setUint16(10, checksum(made.subarray(0, 20 + options.length)));
    fragments.push(made);
  }
  return accept(fragments);
}

/** What of the options stands in later fragments too, padded to whole words with end-of-list. */
function copiedOptions(options: Uint8Array): Uint8Array {
  const kept: number[] = [];
  for (let at = 0; at < options.length; ) {
    const type = options[at] ?? 0;
    if (type === 0) break;
    const length = type === 1 ? 1 : (options[at + 1] ?? 0);
    if (length < 1 || (type !== 1 && length < 2) || at + length > options.length) break; // nothing behind it can be read
    if ((type & COPIED) !== 0) kept.push(...options.subarray(at, at + length));
    at += length;
  }
  while (kept.length % 4 !== 0) kept.push(0);
  return Uint8Array.from(kept);
}
