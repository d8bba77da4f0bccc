// SPDX-License-Identifier: Apache-2.0
// A hash table from two small numbers to one, in flat arrays: look-ups of rule compilation, without boxed keys.

/** Keys and values are integers 0..2^31-1. Grows to stay at most half full. */
export class PairMap {
  #x = new Int32Array(16);
  #y = new Int32Array(16);
  #values = new Int32Array(16).fill(-1);
  #count = 0;

  /** The value, or -1. */
  get(x: number, y: number): number {
    return this.#values[this.#at(x, y)] ?? -1;
  }

  /** Sets a value that is not there yet. */
  set(x: number, y: number, value: number): void {
    if (2 * ++this.#count > this.#values.length) this.#grow();
    const at = this.#at(x, y);
    this.#x[at] = x;
    this.#y[at] = y;
    this.#values[at] = value;
  }

  /** Where the key is, or would be. */
  #at(x: number, y: number): number {
    const mask = this.#values.length - 1;
    let hash = Math.imul(x, 0x9e3779b1) ^ Math.imul(y, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let at = (hash ^ (hash >>> 13)) & mask;
    while (this.#values[at] !== -1 && (this.#x[at] !== x || this.#y[at] !== y)) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const [x, y, values] = [this.#x, this.#y, this.#values];
    this.#x = new Int32Array(2 * x.length);
    this.#y = new Int32Array(2 * x.length);
    this.#values = new Int32Array(2 * x.length).fill(-1);
    for (const [i, value] of values.entries()) {
      if (value === -1) continue;
      const at = this.#at(x[i] ?? 0, y[i] ?? 0);
      this.#x[at] = x[i] ?? 0;
      this.#y[at] = y[i] ?? 0;
      this.#values[at] = value;
    }
  }
}
