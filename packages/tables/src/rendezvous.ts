// SPDX-License-Identifier: Apache-2.0
// Weighted rendezvous: how much each path wants each slot, as numbers that come out the same on every machine.
//
// For path p with weight w and slot s, u(p, s) is a hash in (0, 1). The path with the least cost -ln(1 - u) / w owns the slot: a race of
// exponential clocks, won by each path with probability w / total, whoever else runs. Only the hash of (chain, path, slot) and the
// weight go in, so a table has no history.
//
// Determinism: the hash is 32-bit integer arithmetic; the logarithm is written out below in additions, multiplications and
// divisions, which ECMAScript requires to be rounded as IEEE 754 doubles. Math.log is implementation-approximated and is not used.

const LN2 = Math.LN2;
const SCALE = 2 ** -32;

/** A 32-bit mixer with good avalanche (two multiply-xorshift rounds). */
export function mix32(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0xd35a2d97);
  return x ^ (x >>> 15);
}

/** What one path brings to every slot of one chain. */
export interface Contender {
  readonly seed: number;
  readonly inverseWeight: number;
}

export function toContender(chain: number, path: number, weight: number): Contender {
  return { seed: mix32(mix32(chain + 0x51ed270b) ^ Math.imul(path, 0x9e3779b1)), inverseWeight: 1 / weight };
}

export function slotSeed(slot: number): number {
  return mix32(slot + 0x6a09e667);
}

/** u(p, s), in (0, 1). */
export function draw(pathSeed: number, seedOfSlot: number): number {
  return ((mix32(pathSeed + seedOfSlot) >>> 0) + 0.5) * SCALE;
}

/** The cost at which a path gets a slot; the least wins. */
export function cost(u: number, inverseWeight: number): number {
  return negLog1m(u) * inverseWeight;
}

/** -ln(1 - u) for u in (0, 1), relative error below 1e-9, bit-identical everywhere. Never less than u. */
export function negLog1m(u: number): number {
  let y = 1 - u;
  let halvings = 0;
  while (y < 0.75) {
    y *= 2;
    halvings++;
  }
  // ln y = -2 atanh(t), t = (1 - y) / (1 + y), |t| <= 1/5
  const t = (1 - y) / (1 + y);
  const q = t * t;
  const series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))));
  return halvings * LN2 + 2 * t * series;
}
