// SPDX-License-Identifier: Apache-2.0
// A hash table from two small numbers to one, in flat arrays: look-ups of rule compilation, without boxed keys.

const WIDTH = 4; // x, y, value + 1, unused: one cache line holds four entries

/** Keys and values are integers 0..2^31-2. Grows to stay at most half full. */
export class PairMap {
  #table = new Int32Array(16 * WIDTH);
  #count = 0;

  /** The value, or -1. */
  get(x: number, y: number): number {
    return (this.#table[this.#at(x, y) + 2] ?? 0) - 1;
  }

  /** Sets a value that is not there yet. */
  set(x: number, y: number, value: number): void {
    if (2 * WIDTH * ++this.#count > this.#table.length) this.#grow();
    this.#put(x, y, value + 1);
  }

  #put(x: number, y: number, stored: number): void {
    const at = this.#at(x, y);
    this.#table[at] = x;
    this.#table[at + 1] = y;
    this.#table[at + 2] = stored;
  }

  /** Where the key is, or would be. */
  #at(x: number, y: number): number {
    const table = this.#table;
    const mask = table.length - 1;
    let hash = Math.imul(x, 0x9e3779b1) ^ Math.imul(y, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let at = ((hash ^ (hash >>> 13)) * WIDTH) & mask;
    while (table[at + 2] !== 0 && (table[at] !== x || table[at + 1] !== y)) at = (at + WIDTH) & mask;
    return at;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Int32Array(2 * old.length);
    for (let at = 0; at < old.length; at += WIDTH) {
      const stored = old[at + 2] ?? 0;
      if (stored !== 0) this.#put(old[at] ?? 0, old[at + 1] ?? 0, stored);
    }
  }
}
