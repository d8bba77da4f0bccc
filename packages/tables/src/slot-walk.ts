// SPDX-License-Identifier: Apache-2.0
// How much each path wants each slot of its chain, as numbers that come out the same on every machine (ADR 0029).
//
// A path walks over all slots of its chain in an order of its own: from `first` in strides of `stride`, modulo the number of slots, which is
// a prime. For path p with weight w that meets slot s as its k-th of n, u(p, s) is (k + lead) / n, and its price is -ln(1 - u) / w. The
// least price owns the slot: a race of exponential clocks, won by each path with probability w / total, whoever else runs. Only
// chain, path, number of slots and weight go in, so a table has no history; and a path's cheapest slots are the first of its walk.
//
// Determinism: hashes are 32-bit integers, the rest are IEEE 754 additions, multiplications and divisions (negLog1m). Products that are taken
// modulo the number of slots stay below 2^34.
import { mix32, negLog1m } from './rendezvous.js';

const SCALE = 2 ** -32;

/** What one path brings to the slots of one chain. */
export interface Walk {
  readonly first: number;
  /** 1 to slots - 1. */
  readonly stride: number;
  /** In (0, 1): by how much of a stride it is ahead of others that meet a slot as their k-th, so that prices are seldom equal. */
  readonly lead: number;
  readonly weight: number;
}

export function toWalk(chain: number, path: number, weight: number, slots: number): Walk {
  const seed = mix32(mix32(chain + 0x51ed270b) ^ Math.imul(path, 0x9e3779b1));
  return {
    first: (mix32(seed + 0x6a09e667) >>> 0) % slots,
    stride: 1 + ((mix32(seed + 0xbb67ae85) >>> 0) % (slots - 1)),
    lead: ((mix32(seed + 0x3c6ef372) >>> 0) + 0.5) * SCALE,
    weight,
  };
}

/** What it takes to tell as how manieth a walk meets a slot: the stride's inverse modulo the number of slots (Euclid). */
export function inverseStride({ stride }: Walk, slots: number): number {
  let [rest, next] = [slots, stride];
  let [inverse, other] = [0, 1];
  while (next !== 0) {
    const times = Math.floor(rest / next);
    [rest, next] = [next, rest - times * next];
    [inverse, other] = [other, inverse - times * other];
  }
  return inverse < 0 ? inverse + slots : inverse;
}

/** As how manieth a walk meets a slot, from 0. A remainder by multiplication: that of the language takes ten times as long for doubles. */
export function rankOf(slot: number, first: number, inverse: number, slots: number): number {
  const strides = slot - first;
  const product = (strides < 0 ? strides + slots : strides) * inverse;
  const rest = product - Math.floor(product / slots) * slots;
  return rest < 0 ? rest + slots : rest >= slots ? rest - slots : rest;
}

/**
 * The price of the k-th slot of a walk, apart from its weight and lead: `(priceAt(k, slots) + lead / slots) / weight` grows with k, for
 * -ln(1 - u) grows by more than u does. Never less than k / slots.
 */
export function priceAt(rank: number, slots: number): number {
  return negLog1m(rank / slots);
}
