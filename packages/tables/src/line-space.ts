// SPDX-License-Identifier: Apache-2.0
// Memory of an image in lines of 16 words (datapath/include/abi-rules.h): runs of lines are given out and taken back, and for each reader who holds
// a copy it is known which lines have changed since it was brought up to date.
import { abi } from '@detour/contracts';

export const LINE_WORDS = abi.RulesLimit.RULES_WORDS;
const FIRST_LINES = 64;

/** Lines to copy: their numbers, and their words one after the other. */
export interface LineChanges {
  readonly lines: Uint32Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
}

interface Run {
  at: number;
  count: number;
}

/** `copies`: how many readers hold a copy. Line 0 is given out from the start. */
export class LineSpace {
  #words = new Uint32Array(FIRST_LINES * LINE_WORDS);
  #marks = new Uint8Array(FIRST_LINES); // bit n: line differs from copy n
  readonly #changed: number[][];
  #free: Run[] = []; // ascending, never adjacent
  #top = 1;

  constructor(copies: number) {
    this.#changed = Array.from({ length: copies }, () => []);
    this.touch(0);
  }

  /** The memory; another array after lines were given out. */
  get words(): Uint32Array {
    return this.#words;
  }

  /** Lines up to the last one that is in use. */
  get lines(): number {
    return this.#top;
  }

  /** Some lines in a row, all zero; the number of the first. */
  alloc(count: number): number {
    const at = this.#place(count);
    this.#words.fill(0, at * LINE_WORDS, (at + count) * LINE_WORDS);
    for (let line = at; line < at + count; line++) this.touch(line);
    return at;
  }

  #place(count: number): number {
    const fit = this.#free.findIndex((run) => run.count >= count);
    const run = this.#free[fit];
    if (run !== undefined) {
      const { at } = run;
      run.at += count;
      run.count -= count;
      if (run.count === 0) this.#free.splice(fit, 1);
      return at;
    }
    const at = this.#top;
    this.#top += count;
    if (this.#top > this.#marks.length) this.#grow();
    return at;
  }

  release(at: number, count: number): void {
    const free = this.#free;
    let low = 0;
    for (let high = free.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if ((free[middle]?.at ?? 0) < at) low = middle + 1;
      else high = middle;
    }
    free.splice(low, 0, { at, count });
    for (const i of [low, low - 1]) {
      const [run, next] = [free[i], free[i + 1]];
      if (run === undefined || next === undefined || run.at + run.count !== next.at) continue;
      run.count += next.count;
      free.splice(i + 1, 1);
    }
    const last = free[free.length - 1];
    if (last !== undefined && last.at + last.count === this.#top) {
      this.#top = last.at;
      free.pop();
    }
  }

  #grow(): void {
    const lines = Math.max(2 * this.#marks.length, this.#top);
    const words = new Uint32Array(lines * LINE_WORDS);
    words.set(this.#words);
    this.#words = words;
    const marks = new Uint8Array(lines);
    marks.set(this.#marks);
    this.#marks = marks;
  }

  /** A line was or is about to be written. */
  touch(line: number): void {
    const all = (1 << this.#changed.length) - 1;
    const marks = this.#marks[line] ?? 0;
    if (marks === all) return;
    this.#marks[line] = all;
    for (const [copy, changed] of this.#changed.entries())
      if ((marks & (1 << copy)) === 0) changed.push(line);
  }

  /** What this copy lacks, at most so many lines of it; of these it counts as up to date then. */
  take(copy: number, most: number): LineChanges {
    const lacking = this.#changed[copy] ?? [];
    const changed = lacking.splice(Math.max(0, lacking.length - most));
    for (const line of changed) this.#marks[line] = (this.#marks[line] ?? 0) & ~(1 << copy);
    const lines = Uint32Array.from(changed.filter((line) => line < this.#top));
    const words = new Uint32Array(lines.length * LINE_WORDS);
    for (const { at, line, count } of runsOf(lines))
      words.set(this.#words.subarray(line * LINE_WORDS, (line + count) * LINE_WORDS), at * LINE_WORDS);
    return { lines, words };
  }
}

/** Brings a copy of an image up to date; `base` is the word where it begins. */
export function copyLines({ lines, words }: LineChanges, into: Uint32Array, base: number): void {
  for (const { at, line, count } of runsOf(lines))
    into.set(words.subarray(at * LINE_WORDS, (at + count) * LINE_WORDS), base + line * LINE_WORDS);
}

/** Lines that follow each other in memory as well: `count` of them from the one at this place of the list. */
function* runsOf(lines: Uint32Array): Generator<{ at: number; line: number; count: number }> {
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] ?? 0;
    let count = 1;
    while (lines[at + count] === line + count) count++;
    yield { at, line, count };
    at += count;
  }
}
