// SPDX-License-Identifier: Apache-2.0
// The symmetric keyed hash by which every gateway chooses the same slot for a flow: HalfSipHash-1-3 (32-bit words, 64-bit key) over
// the affinity fields of the normalised flow key. datapath/lib/select.h is its twin; vectors/selection-hash.json binds the two.
import type { AddressBytes } from './address.js';
import type { FlowKey } from './flow.js';

/** Which fields of a flow decide its path. */
export const AFFINITIES = ['5-tuple', '3-tuple', '2-tuple', 'source'] as const;
export type Affinity = (typeof AFFINITIES)[number];

/** The secret as two words: the low and the high half of control.hash_key. */
export interface HashKey {
  readonly lo: number;
  readonly hi: number;
}

/** 8 bytes (16 hex digits) to the key; the first byte is the least significant of `lo`. */
export function hashKeyFromHex(hex: string): HashKey {
  const bytes = Buffer.from(hex.slice(0, 16).padEnd(16, '0'), 'hex');
  return { lo: bytes.readUInt32LE(0), hi: bytes.readUInt32LE(4) };
}

export function hashKeyToBigInt(key: HashKey): bigint {
  return (BigInt(key.hi) << 32n) | BigInt(key.lo);
}

const WORDS = 10;

/**
 * The 32-bit selection hash, as an unsigned number.
 * `initiatorIsB` matters for affinity 'source' alone: which end point is the rule's source side.
 */
export function selectionHash(
  key: FlowKey,
  affinity: Affinity,
  initiatorIsB: boolean,
  secret: HashKey,
): number {
  const words = new Uint32Array(WORDS);
  if (affinity === 'source') {
    loadAddress(words, 0, initiatorIsB ? key.b : key.a);
    words[9] = key.vrf;
  } else {
    loadAddress(words, 0, key.a);
    loadAddress(words, 4, key.b);
    if (affinity === '5-tuple') words[8] = swap16(key.aport) | (swap16(key.bport) << 16);
    words[9] = key.vrf | (affinity === '2-tuple' ? 0 : key.proto << 16);
  }
  return halfSipHash13(words, secret);
}

function loadAddress(words: Uint32Array, at: number, address: AddressBytes): void {
  for (let i = 0; i < 4; i++) {
    const o = 4 * i;
    words[at + i] =
      (address[o] ?? 0) |
      ((address[o + 1] ?? 0) << 8) |
      ((address[o + 2] ?? 0) << 16) |
      ((address[o + 3] ?? 0) << 24);
  }
}

function swap16(port: number): number {
  return ((port & 0xff) << 8) | (port >>> 8);
}

function rotl(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits));
}

/** HalfSipHash with 1 compression and 3 finalisation rounds and a 32-bit result, for whole words. */
export function halfSipHash13(words: Uint32Array, key: HashKey): number {
  let v0 = key.lo | 0;
  let v1 = key.hi | 0;
  let v2 = key.lo ^ 0x6c796765;
  let v3 = key.hi ^ 0x74656462;
  const round = () => {
    v0 = (v0 + v1) | 0;
    v1 = rotl(v1, 5) ^ v0;
    v0 = rotl(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotl(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotl(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotl(v1, 13) ^ v2;
    v2 = rotl(v2, 16);
  };
  for (const word of words) {
    v3 ^= word;
    round();
    v0 ^= word;
  }
  const last = (words.length * 4) << 24;
  v3 ^= last;
  round();
  v0 ^= last;
  v2 ^= 0xff;
  round();
  round();
  round();
  return (v1 ^ v3) >>> 0;
}
