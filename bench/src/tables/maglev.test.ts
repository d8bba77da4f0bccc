// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { maglevTable } from './maglev.js';

const SLOTS = 3_203;
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `backend ${i}`);
const counts = (table: Uint16Array, backends: number): number[] =>
  Array.from({ length: backends }, (_, i) => table.filter((one) => one === i).length);

/** The pseudocode of the paper's section 3.4, with every permutation written out first. */
function populate(backends: readonly string[], slots: number): number[] {
  const hash = (text: string) => createHash('sha256').update(text).digest().readUInt32BE();
  const permutation = backends.map((name) => {
    const offset = hash(`offset ${name}`) % slots;
    const skip = (hash(`skip ${name}`) % (slots - 1)) + 1;
    return Array.from({ length: slots }, (_, j) => (offset + j * skip) % slots);
  });
  const next = backends.map(() => 0);
  const entry = new Array<number>(slots).fill(-1);
  for (let n = 0; ; ) {
    for (let i = 0; i < backends.length; i++) {
      let c = permutation[i]?.[next[i] ?? 0] ?? 0;
      while ((entry[c] ?? 0) >= 0) {
        next[i] = (next[i] ?? 0) + 1;
        c = permutation[i]?.[next[i] ?? 0] ?? 0;
      }
      entry[c] = i;
      next[i] = (next[i] ?? 0) + 1;
      if (++n === slots) return entry;
    }
  }
}

describe('maglevTable', () => {
  it.each([1, 2, 7, 32])(
    'is the table of the paper: %d backends, each in its turn its next free slot',
    (backends) => {
      expect([...maglevTable(names(backends), 401)]).toEqual(populate(names(backends), 401));
    },
  );

  it.each([1, 2, 7, 32])(
    'gives %d backends every slot, no two of them more than one slot apart',
    (backends) => {
      const held = counts(maglevTable(names(backends), SLOTS), backends);
      expect(held.reduce((sum, count) => sum + count, 0)).toBe(SLOTS);
      expect(Math.max(...held) - Math.min(...held)).toBeLessThanOrEqual(1);
    },
  );

  it('gives the slots of one that leaves to the others; some of the others change hands as well, and not many', () => {
    const all = names(10);
    const before = maglevTable(all, SLOTS);
    const othersMoved = all.map((_, gone) => {
      const rest = all.filter((_, i) => i !== gone);
      const after = maglevTable(rest, SLOTS).map((place) => (place >= gone ? place + 1 : place));
      expect(after).not.toContain(gone);
      return before.filter((one, slot) => one !== gone && after[slot] !== one).length / SLOTS;
    });
    expect(Math.min(...othersMoved)).toBeGreaterThan(0); // unlike plain rendezvous, where nobody else's slots move
    expect(Math.max(...othersMoved)).toBeLessThan(0.05);
  });
});
