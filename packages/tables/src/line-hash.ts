// SPDX-License-Identifier: Apache-2.0
// A hash table over lines of an image, as datapath/lib/rules.h searches it: word 0 of a line counts the entries that belong in it or before and
// stand behind it. An entry stands at most RULES_PROBES - 1 lines behind the one of its key's hash; where that cannot be, the table grows.
import { abi } from '@detour/contracts';
import { LINE_WORDS, type LineSpace } from './line-space.js';

const PROBES = abi.RulesLimit.RULES_PROBES;
const FULLEST = 0.8;
const FRESH = 0.55;
const NOWHERE = -1;

/** How entries look. `mark` is the word that is 0 where there is none. */
export interface EntryShape {
  readonly words: number;
  readonly keyWords: number;
  readonly perLine: number;
  readonly mark: number;
}

export const PREFIX4: EntryShape = { words: 3, keyWords: 2, perLine: 5, mark: 2 };
export const PREFIX6: EntryShape = { words: 6, keyWords: 5, perLine: 2, mark: 5 };
export const PAIR: EntryShape = { words: 5, keyWords: 2, perLine: 3, mark: abi.RulesEntry.RULES_PAIR_KINDS };
export const LEAF: EntryShape = { words: 7, keyWords: 3, perLine: 2, mark: abi.RulesEntry.RULES_LEAF_RULE };

/** The line, counted from the table's first, at which the search for a key begins. */
export function homeLine(
  key: ArrayLike<number>,
  { at, words, lines }: { readonly at: number; readonly words: number; readonly lines: number },
): number {
  let hash = 0;
  for (let i = at; i < at + words; i++) {
    hash = Math.imul(hash ^ (key[i] ?? 0), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return Math.floor((((hash ^ (hash >>> 16)) >>> 0) * lines) / 2 ** 32);
}

/** Word at which the entry of a key is, or -1. The table as its head says: first line and lines. */
export function findEntry(
  image: Uint32Array,
  shape: EntryShape,
  table: { readonly at: number; readonly lines: number },
  key: ArrayLike<number>,
): number {
  const { words, keyWords, perLine, mark } = shape;
  let line = (table.at + homeLine(key, { at: 0, words: keyWords, lines: table.lines })) * LINE_WORDS;
  for (let probe = 0; probe < PROBES; probe++, line += LINE_WORDS) {
    for (let entry = line + 1; entry <= line + perLine * words; entry += words) {
      if (image[entry + mark] === 0) continue;
      let same = 0;
      while (same < keyWords && image[entry + same] === key[same]) same++;
      if (same === keyWords) return entry;
    }
    if (image[line] === 0) return NOWHERE;
  }
  return NOWHERE;
}

export class LineHash {
  #at: number;
  #lines: number;
  #count = 0;

  /** `head`: the word of line 0 that says where the table is; the next says how many lines it has. */
  constructor(
    private readonly space: LineSpace,
    private readonly shape: EntryShape,
    private readonly head: number,
  ) {
    this.#lines = 1;
    this.#at = space.alloc(PROBES);
    this.#tell();
  }

  find(key: ArrayLike<number>): number {
    return findEntry(this.space.words, this.shape, { at: this.#at, lines: this.#lines }, key);
  }

  /** Room for this many more entries, at once rather than in steps. */
  reserve(more: number): void {
    const wanted = Math.ceil((this.#count + more) / FRESH / this.shape.perLine);
    if ((this.#count + more) / this.shape.perLine > FULLEST * this.#lines) this.#resize(wanted);
  }

  /** Puts an entry (key and value words) in, or in place of the one of its key. */
  set(entry: ArrayLike<number>): void {
    const { words, perLine } = this.shape;
    const known = this.find(entry);
    if (known !== NOWHERE) {
      this.#write(known, entry);
      return;
    }
    if (this.#count + 1 > FULLEST * this.#lines * perLine)
      this.#resize(Math.ceil((this.#count + 1) / FRESH / perLine));
    while (!this.#insert(entry, 0, words)) this.#resize(Math.ceil(1.5 * this.#lines) + 1);
    this.#count++;
  }

  delete(key: ArrayLike<number>): void {
    const at = this.find(key);
    if (at === NOWHERE) return;
    const { words, keyWords } = this.shape;
    const image = this.space.words;
    const home = this.#at + homeLine(key, { at: 0, words: keyWords, lines: this.#lines });
    const line = Math.floor(at / LINE_WORDS);
    for (let passed = home; passed < line; passed++) {
      image[passed * LINE_WORDS] = (image[passed * LINE_WORDS] ?? 0) - 1;
      this.space.touch(passed);
    }
    image.fill(0, at, at + words);
    this.space.touch(line);
    this.#count--;
  }

  #write(at: number, entry: ArrayLike<number>): void {
    const image = this.space.words;
    let changed = false;
    for (let i = 0; i < this.shape.words; i++) {
      const word = (entry[i] ?? 0) >>> 0;
      changed ||= image[at + i] !== word;
      image[at + i] = word;
    }
    if (changed) this.space.touch(Math.floor(at / LINE_WORDS));
  }

  /** False when there is no room within reach of the entry's home. */
  #insert(from: ArrayLike<number>, at: number, words: number): boolean {
    const { keyWords, perLine, mark } = this.shape;
    const image = this.space.words;
    const home = this.#at + homeLine(from, { at, words: keyWords, lines: this.#lines });
    for (let line = home; line < home + PROBES; line++) {
      for (let i = 0; i < perLine; i++) {
        const entry = line * LINE_WORDS + 1 + i * words;
        if (image[entry + mark] !== 0) continue;
        for (let word = 0; word < words; word++) image[entry + word] = from[at + word] ?? 0;
        this.space.touch(line);
        for (let passed = home; passed < line; passed++) {
          image[passed * LINE_WORDS] = (image[passed * LINE_WORDS] ?? 0) + 1;
          this.space.touch(passed);
        }
        return true;
      }
    }
    return false;
  }

  #resize(lines: number): void {
    const { words, perLine, mark } = this.shape;
    const [oldAt, oldLines] = [this.#at, this.#lines + PROBES - 1];
    const entries: Uint32Array = this.space.words.slice(oldAt * LINE_WORDS, (oldAt + oldLines) * LINE_WORDS);
    this.space.release(oldAt, oldLines);
    for (let wanted = Math.max(1, lines); ; wanted = Math.ceil(1.5 * wanted) + 1) {
      this.#lines = wanted;
      this.#at = this.space.alloc(wanted + PROBES - 1);
      let fits = true;
      for (let line = 0; line < entries.length && fits; line += LINE_WORDS) {
        for (let entry = line + 1; entry <= line + perLine * words && fits; entry += words)
          if (entries[entry + mark] !== 0) fits = this.#insert(entries, entry, words);
      }
      if (fits) break;
      this.space.release(this.#at, wanted + PROBES - 1);
    }
    this.#tell();
  }

  #tell(): void {
    this.space.words[this.head] = this.#at;
    this.space.words[this.head + 1] = this.#lines;
    this.space.touch(0);
  }
}
