// SPDX-License-Identifier: Apache-2.0
// Random numbers from a seed, in 32-bit integer arithmetic: the same on every machine.

export interface Random {
  /** 0 .. 2^32 - 1. */
  next(): number;
  /** 0 .. bound - 1; bound up to 2^32. */
  below(bound: number): number;
  /** [0, 1). */
  unit(): number;
}

const SCALE = 2 ** -32;

/** A counter through a mixer with good avalanche (splitmix32). */
export function seededRandom(seed: number): Random {
  let counter = seed | 0;
  const next = (): number => {
    counter = (counter + 0x9e3779b9) | 0;
    let x = counter;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };
  return {
    next,
    below: (bound) => Math.floor(next() * SCALE * bound),
    unit: () => next() * SCALE,
  };
}

/** A new array in random order. */
export function shuffled<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const other = random.below(i + 1);
    const [a, b] = [out[i], out[other]];
    if (a !== undefined && b !== undefined) [out[i], out[other]] = [b, a];
  }
  return out;
}
