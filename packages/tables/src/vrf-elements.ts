// SPDX-License-Identifier: Apache-2.0
// The address side of an image: which elements the rules of each VRF have, the prefixes that lead to them, and the lengths that these have.
import { abi, type PrefixRow } from '@detour/contracts';
import { Fault } from '@detour/core';
import { elementsOf, prefixEntryKey } from './image-rules.js';
import { LineHash, PREFIX4, PREFIX6 } from './line-hash.js';
import { ELEMENT_LIST, releaseList, writeList } from './line-list.js';
import { LINE_WORDS, type LineSpace } from './line-space.js';
import { elementKey, isV4 } from './rule-elements.js';

const HEAD = abi.RulesHead;
const LENGTHS = abi.RulesLengths;
const { RULES_VALUE_LIST } = abi.RulesEntry;
const FIRST_ELEMENT = 65_536;

type Side = 0 | 1;

interface Element {
  readonly number: number;
  uses: number;
}

interface VrfState {
  /** Of [source, destination] */
  readonly elements: readonly [Map<number | string, Element>, Map<number | string, Element>];
  /** Prefixes of each length: of sources IPv4, of destinations IPv4, of sources IPv6, of destinations IPv6. */
  readonly lengths: readonly Uint32Array[];
  line: number;
  rules: number;
  changed: boolean;
}

export class VrfElements {
  readonly #vrfs = new Map<number, VrfState>();
  readonly #changed = new Set<number>();
  readonly #prefixes4: LineHash;
  readonly #prefixes6: LineHash;
  readonly #spare: number[] = [];
  #next = FIRST_ELEMENT;
  #index = { at: 0, words: 0 };

  constructor(private readonly space: LineSpace) {
    this.#prefixes4 = new LineHash(space, PREFIX4, HEAD.RULES_PREFIX4_AT);
    this.#prefixes6 = new LineHash(space, PREFIX6, HEAD.RULES_PREFIX6_AT);
  }

  reserve(prefixes: { readonly v4: number; readonly v6: number }): void {
    this.#prefixes4.reserve(prefixes.v4);
    this.#prefixes6.reserve(prefixes.v6);
  }

  /** Number of an element that one more rule uses. An empty list means any. */
  use(vrf: number, side: Side, prefixes: readonly PrefixRow[]): number {
    if (prefixes.length === 0) return vrf;
    const state = this.#stateOf(vrf);
    const key = elementKey(prefixes);
    const known = state.elements[side].get(key);
    if (known !== undefined) {
      known.uses++;
      return known.number;
    }
    const number = this.#spare.pop() ?? this.#next++;
    if (number >= abi.RulesLimit.RULES_ELEMENTS)
      throw new Fault(
        'refused',
        `rules have more than ${abi.RulesLimit.RULES_ELEMENTS - FIRST_ELEMENT} distinct prefixes: join some`,
      );
    state.elements[side].set(key, { number, uses: 1 });
    for (const prefix of prefixes) this.#enter(vrf, state, side, prefix, number);
    return number;
  }

  /** One rule less uses it. */
  drop(vrf: number, side: Side, prefixes: readonly PrefixRow[]): void {
    if (prefixes.length === 0) return;
    const state = this.#stateOf(vrf);
    const key = elementKey(prefixes);
    const known = state.elements[side].get(key);
    if (known === undefined || --known.uses > 0) return;
    state.elements[side].delete(key);
    for (const prefix of prefixes) this.#leave(vrf, state, side, prefix, known.number);
    this.#spare.push(known.number);
  }

  /** The element that a rule in force uses. */
  numberOf(vrf: number, side: Side, prefixes: readonly PrefixRow[]): number {
    if (prefixes.length === 0) return vrf;
    return this.#vrfs.get(vrf)?.elements[side].get(elementKey(prefixes))?.number ?? 0;
  }

  countRules(vrf: number, more: 1 | -1): void {
    const state = this.#stateOf(vrf);
    state.rules += more;
    if (state.rules === 0 || state.line === 0) this.#changed.add(vrf);
  }

  #stateOf(vrf: number): VrfState {
    const known = this.#vrfs.get(vrf);
    if (known !== undefined) return known;
    const made: VrfState = {
      elements: [new Map(), new Map()],
      lengths: [33, 33, 129, 129].map((count) => new Uint32Array(count)),
      ...{ line: 0, rules: 0, changed: false },
    };
    this.#vrfs.set(vrf, made);
    return made;
  }

  #enter(vrf: number, state: VrfState, side: Side, prefix: PrefixRow, element: number): void {
    const { hash, key, value, v4, length } = this.#find(vrf, side, prefix);
    if (value === 0) {
      hash.set([...key, element]);
      this.#countLength(vrf, state, { v4, side, length }, 1);
      return;
    }
    const elements = elementsOf(this.space.words, value);
    if ((value & RULES_VALUE_LIST) !== 0) releaseList(this.space, value & ~RULES_VALUE_LIST);
    hash.set([...key, this.#listOf([...elements, element])]);
  }

  #leave(vrf: number, state: VrfState, side: Side, prefix: PrefixRow, element: number): void {
    const { hash, key, value, v4, length } = this.#find(vrf, side, prefix);
    const elements = elementsOf(this.space.words, value);
    if ((value & RULES_VALUE_LIST) !== 0) releaseList(this.space, value & ~RULES_VALUE_LIST);
    elements.splice(elements.indexOf(element), 1);
    const [only] = elements;
    if (only === undefined) {
      hash.delete(key);
      this.#countLength(vrf, state, { v4, side, length }, -1);
    } else hash.set([...key, elements.length === 1 ? only : this.#listOf(elements)]);
  }

  #listOf(elements: readonly number[]): number {
    const records = elements.map((element) => [element]);
    return RULES_VALUE_LIST | writeList(this.space, records, ELEMENT_LIST);
  }

  #find(vrf: number, side: Side, prefix: PrefixRow) {
    const v4 = isV4(prefix);
    const length = v4 ? prefix.bits - 96 : prefix.bits;
    const hash = v4 ? this.#prefixes4 : this.#prefixes6;
    const key = prefixEntryKey({ address: prefix.address, v4, length }, vrf, side);
    const at = hash.find(key);
    const value = at < 0 ? 0 : (this.space.words[at + key.length] ?? 0);
    return { hash, key, value, v4, length };
  }

  #countLength(
    vrf: number,
    state: VrfState,
    { v4, side, length }: { readonly v4: boolean; readonly side: Side; readonly length: number },
    more: 1 | -1,
  ): void {
    const counts = state.lengths[(v4 ? 0 : 2) + side];
    if (counts === undefined) return;
    const count = (counts[length] ?? 0) + more;
    counts[length] = count;
    if (count === 0 || (count === 1 && more === 1)) this.#changed.add(vrf);
  }

  /** Brings the index of VRFs and their lengths up to what `use` and `drop` left. */
  flush(): void {
    for (const vrf of this.#changed) {
      const state = this.#stateOf(vrf);
      if (state.rules === 0) {
        if (state.line !== 0) this.space.release(state.line, LENGTHS.RULES_LENGTHS_LINES);
        state.line = 0;
        this.#vrfs.delete(vrf);
      } else {
        if (state.line === 0) state.line = this.space.alloc(LENGTHS.RULES_LENGTHS_LINES);
        this.#writeLengths(state);
      }
      this.#point(vrf, state.line);
    }
    this.#changed.clear();
  }

  #writeLengths({ lengths, line }: VrfState): void {
    const { RULES_LENGTHS6, RULES_LENGTHS6_LINES } = LENGTHS;
    const lines = [0, 1, RULES_LENGTHS6, RULES_LENGTHS6 + RULES_LENGTHS6_LINES];
    for (const [i, counts] of lengths.entries()) {
      const bytes: number[] = [0];
      for (let length = counts.length - 1; length >= 0; length--)
        if (counts[length] !== 0) bytes.push(length);
      bytes[0] = bytes.length - 1;
      const span = i < 2 ? 1 : RULES_LENGTHS6_LINES;
      for (let word = 0; word < span * LINE_WORDS; word++) {
        const value = [3, 2, 1, 0].reduce((sum, byte) => sum * 256 + (bytes[4 * word + byte] ?? 0), 0);
        this.space.words[(line + (lines[i] ?? 0)) * LINE_WORDS + word] = value;
      }
    }
    for (let i = 0; i < LENGTHS.RULES_LENGTHS_LINES; i++) this.space.touch(line + i);
  }

  #point(vrf: number, line: number): void {
    const { space } = this;
    if (vrf >= this.#index.words) {
      const lines = Math.ceil((vrf + 1) / LINE_WORDS);
      const old = space.words.slice(
        this.#index.at * LINE_WORDS,
        this.#index.at * LINE_WORDS + this.#index.words,
      );
      if (this.#index.words > 0) space.release(this.#index.at, this.#index.words / LINE_WORDS);
      this.#index = { at: space.alloc(lines), words: lines * LINE_WORDS };
      space.words.set(old, this.#index.at * LINE_WORDS);
      space.words[HEAD.RULES_VRFS_AT] = this.#index.at;
      space.words[HEAD.RULES_VRFS] = this.#index.words;
      space.touch(0);
    }
    space.words[this.#index.at * LINE_WORDS + vrf] = line;
    space.touch(this.#index.at + Math.floor(vrf / LINE_WORDS));
  }
}
