// SPDX-License-Identifier: Apache-2.0
// The plain Maglev table (Eisenbud et al., NSDI 2016, 3.4), without weights: to compare with, not used by Detour.
import { createHash } from 'node:crypto';

/** Slot → index of the backend. `slots` is prime. */
export function maglevTable(backends: readonly string[], slots: number): Uint16Array {
  const FREE = 0xffff;
  const table = new Uint16Array(slots).fill(FREE);
  const walks = backends.map((name) => ({
    offset: hashOf(name, 'offset') % slots,
    skip: (hashOf(name, 'skip') % (slots - 1)) + 1,
    next: 0,
  }));
  for (let filled = 0; filled < slots; ) {
    for (const [backend, walk] of walks.entries()) {
      let slot = (walk.offset + walk.skip * walk.next) % slots;
      while (table[slot] !== FREE) slot = (walk.offset + walk.skip * ++walk.next) % slots;
      table[slot] = backend;
      walk.next++;
      if (++filled === slots) break;
    }
  }
  return table;
}

function hashOf(name: string, use: string): number {
  return createHash('sha256').update(`${use} ${name}`).digest().readUInt32BE();
}
