// SPDX-License-Identifier: Apache-2.0
// Takes samples of several sides in turn (A B A B …), so that what disturbs the machine disturbs all of them alike.
import { Fault } from '@detour/core';
import type { BenchContext } from './figure.js';

/** How one side is measured, by its name. */
export type Sides<T> = Readonly<Record<string, () => Promise<T>>>;

/** The samples of every side, in the order of the rounds. */
export interface Samples<T> {
  /** @throws Fault `not_found` for a side that was not measured. */
  of(side: string): readonly T[];
}

/** Measures every side once a round. What a side does first is its own warming up. */
export async function measureRounds<T>(
  context: BenchContext,
  what: string,
  sides: Sides<T>,
): Promise<Samples<T>> {
  const names = Object.keys(sides);
  const samples = new Map<string, T[]>(names.map((name) => [name, []]));
  for (let round = 1; round <= context.rounds; round++) {
    for (const name of names) {
      context.signal.throwIfAborted();
      context.progress.step(`${what}: round ${round} of ${context.rounds}, ${name}`);
      const sample = await sides[name]?.();
      if (sample !== undefined) samples.get(name)?.push(sample);
    }
  }
  return {
    of: (side) => {
      const found = samples.get(side);
      if (found === undefined)
        throw new Fault(
          'not_found',
          `${what}: no side '${side}' was measured; there are ${names.join(', ')}`,
        );
      return found;
    },
  };
}
