// SPDX-License-Identifier: Apache-2.0
// A rule table as an image that the datapath and ImageRules search (datapath/include/abi-rules.h), kept up to date rule by rule: what a change costs, and
// the lines that it touches, go by the rules that changed and by those that share a leaf or a pair with them, not by the table.
import { abi, type RuleRow } from '@detour/contracts';
import { ImageRules, type ImageSource } from './image-rules.js';
import { LEAF, LineHash, PAIR } from './line-hash.js';
import { CONDITION_LIST, releaseList, SHORT_LIST, writeList } from './line-list.js';
import { type LineChanges, LineSpace } from './line-space.js';
import type { TableDelta } from './rows.js';
import {
  type Condition,
  comparesSourcePort,
  conditionsOf,
  matchesNothing,
  pairBits,
} from './rule-conditions.js';
import { elementKey, isV4, ruleElements } from './rule-elements.js';
import { comparePrecedence } from './rule-match.js';
import { rankOf, verdictWord } from './rule-words.js';
import { MOST_SHORT, shortRecords } from './short-records.js';
import { VrfElements } from './vrf-elements.js';

const HEAD = abi.RulesHead;
const ENTRY = abi.RulesEntry;
const ELEMENTS = abi.RulesLimit.RULES_ELEMENTS;
const CONDITIONS = 2 ** 32;

interface Leaf {
  readonly key: number;
  readonly condition: Condition;
  rules: RuleRow[];
  changed: boolean;
}

interface Pair {
  readonly from: number;
  readonly to: number;
  /** All of them. */
  rules: RuleRow[];
  /** Whether they are in leaves: not while they are few. Once they are, they stay until the pair has none. */
  leafy: boolean;
  /** Most pairs with leaves have one; others in `more`. */
  only: Leaf | null;
  more: Map<number, Leaf> | null;
  /** Leaves whose rules changed. */
  changed: Leaf[];
}

export interface RuleImageOptions {
  /** How many hold a copy that `changes` keeps up to date. */
  readonly copies?: number;
}

export class RuleImage implements ImageSource {
  readonly #space: LineSpace;
  readonly #elements: VrfElements;
  readonly #pairTable: LineHash;
  readonly #leafTable: LineHash;
  readonly #rows = new Map<number, RuleRow>();
  readonly #pairs = new Map<number, Pair>();
  readonly #changed = new Set<Pair>();
  readonly #gone = new Set<RuleRow>();

  constructor({ copies = 0 }: RuleImageOptions = {}) {
    this.#space = new LineSpace(copies);
    this.#elements = new VrfElements(this.#space);
    this.#pairTable = new LineHash(this.#space, PAIR, HEAD.RULES_PAIRS_AT);
    this.#leafTable = new LineHash(this.#space, LEAF, HEAD.RULES_LEAVES_AT);
  }

  /** An image of these rules and a look-up in it. */
  static of(rules: readonly RuleRow[]): ImageRules {
    const image = new RuleImage();
    image.apply({ upserts: rules, removes: [] });
    return image.rules();
  }

  rules(): ImageRules {
    return new ImageRules(this);
  }

  get words(): Uint32Array {
    return this.#space.words;
  }

  /** Lines that a half must have to hold it. */
  get lines(): number {
    return this.#space.lines;
  }

  row(number: number): RuleRow | undefined {
    return this.#rows.get(number);
  }

  /** What the copy of this number lacks; with `most`, so many lines of it. Empty when it is up to date. */
  changes(copy: number, most = Number.POSITIVE_INFINITY): LineChanges {
    return this.#space.take(copy, most);
  }

  /** Rules that changed or are new, and numbers of rules that are gone. Rules are valid (validateRules). */
  apply({ upserts, removes }: TableDelta<RuleRow>): void {
    for (const number of removes) this.#remove(number);
    const fresh = upserts.filter((row) => this.#rows.get(row.number) !== row);
    for (const row of fresh) this.#remove(row.number);
    this.reserve(fresh);
    for (const row of fresh) this.#add(row);
    for (const pair of this.#changed) this.#writePair(pair);
    this.#changed.clear();
    this.#gone.clear();
    this.#elements.flush();
    this.#space.words[HEAD.RULES_COUNT] = this.#rows.size;
    this.#space.touch(0);
  }

  /** For many rules to come: tables take their size in one step. */
  reserve(rows: readonly RuleRow[]): void {
    if (rows.length < 256) return;
    const keys = [new Set<number | string>(), new Set<number | string>()] as const;
    const count = { v4: 0, v6: 0 };
    const add = (prefix: RuleRow['sources'][number], seen: Set<number | string>): void => {
      const before = seen.size;
      if (seen.add(elementKey([prefix])).size > before) count[isV4(prefix) ? 'v4' : 'v6']++;
    };
    for (const { sources, destinations } of rows) {
      for (const prefix of sources) add(prefix, keys[0]);
      for (const prefix of destinations) add(prefix, keys[1]);
    }
    this.#elements.reserve(count);
    this.#pairTable.reserve(rows.length);
  }

  #add(given: RuleRow): void {
    const row = this.#gone.has(given) ? { ...given } : given;
    this.#rows.set(row.number, row);
    this.#elements.countRules(row.vrf, 1);
    const [sources, destinations] = ruleElements(row);
    const use = (side: 0 | 1, { elements }: typeof sources): number[] =>
      elements.length === 0
        ? [row.vrf]
        : elements.map((prefixes) => this.#elements.use(row.vrf, side, prefixes));
    this.#place(row, use(0, sources), use(1, destinations));
  }

  #remove(number: number): void {
    const row = this.#rows.get(number);
    if (row === undefined) return;
    this.#rows.delete(number);
    this.#gone.add(row);
    const fields = ruleElements(row);
    const numbers = fields.map(({ elements }, side) =>
      elements.length === 0
        ? [row.vrf]
        : elements.map((prefixes) => this.#elements.numberOf(row.vrf, side === 0 ? 0 : 1, prefixes)),
    );
    this.#place(row, numbers[0] ?? [], numbers[1] ?? []);
    for (const [side, { elements }] of fields.entries())
      for (const prefixes of elements) this.#elements.drop(row.vrf, side === 0 ? 0 : 1, prefixes);
    this.#elements.countRules(row.vrf, -1);
  }

  /** Enters a rule in its leaves; or, when it is gone, has it taken out of them. */
  #place(row: RuleRow, from: readonly number[], to: readonly number[]): void {
    if (matchesNothing(row)) return;
    const gone = this.#gone.has(row);
    let conditions: readonly Condition[] | null = null; // most rules are in pairs of few, which need none
    for (const source of from) {
      for (const destination of to) {
        const pair = this.#pairOf(source, destination);
        this.#changed.add(pair);
        if (!gone) pair.rules.push(row);
        if (!pair.leafy) continue;
        conditions ??= conditionsOf(row);
        this.#enter(pair, row, conditions);
      }
    }
  }

  #enter(pair: Pair, row: RuleRow, conditions: readonly Condition[]): void {
    const gone = this.#gone.has(row);
    for (const condition of conditions) {
      const key = condition.kind * CONDITIONS + condition.value;
      const leaf = leafOf(pair, key) ?? addLeaf(pair, { key, condition, rules: [], changed: false });
      if (!gone) leaf.rules.push(row);
      if (!leaf.changed) pair.changed.push(leaf);
      leaf.changed = true;
    }
  }

  #pairOf(from: number, to: number): Pair {
    const key = from * ELEMENTS + to;
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;
    const made: Pair = { from, to, rules: [], leafy: false, only: null, more: null, changed: [] };
    this.#pairs.set(key, made);
    return made;
  }

  #writePair(pair: Pair): void {
    if (this.#gone.size > 0) pair.rules = pair.rules.filter((row) => !this.#gone.has(row));
    const key = [pair.from, pair.to];
    if (!pair.leafy) {
      const at = this.#pairTable.find(key);
      if (at >= 0) releaseList(this.#space, this.#space.words[at + ENTRY.RULES_PAIR_LENGTHS] ?? 0);
      const records = shortRecords(pair.rules.sort(comparePrecedence));
      const [best] = records;
      if (records.length <= MOST_SHORT && best !== undefined) {
        const list = writeList(this.#space, records, SHORT_LIST);
        this.#pairTable.set([...key, best[0] ?? 0, list, ENTRY.RULES_PAIR_SHORT]);
        return;
      }
      pair.leafy = true;
      for (const row of pair.rules) this.#enter(pair, row, conditionsOf(row));
    }
    for (const leaf of pair.changed) this.#writeLeaf(pair, leaf);
    pair.changed = [];
    if (leavesIn(pair) === 0) {
      this.#pairs.delete(pair.from * ELEMENTS + pair.to);
      this.#pairTable.delete(key);
      return;
    }
    let [rank, lengths, kinds] = [0xffff_ffff, 0, 0];
    const count = ({ condition, rules }: Leaf): void => {
      const bits = pairBits(condition.kind);
      kinds |= bits.kinds;
      lengths |= bits.lengths;
      const [first] = rules;
      if (first !== undefined) rank = Math.min(rank, rankOf(first));
    };
    if (pair.only !== null) count(pair.only);
    if (pair.more !== null) for (const leaf of pair.more.values()) count(leaf);
    this.#pairTable.set([pair.from, pair.to, rank, lengths >>> 0, kinds]);
  }

  #writeLeaf(pair: Pair, leaf: Leaf): void {
    leaf.changed = false;
    const { kind, value } = leaf.condition;
    const key = [(pair.from | (kind << ENTRY.RULES_LEAF_KIND_SHIFT)) >>> 0, pair.to, value];
    if (this.#gone.size > 0) leaf.rules = leaf.rules.filter((row) => !this.#gone.has(row));
    if (leaf.rules.length > 1) leaf.rules.sort(comparePrecedence);
    const at = this.#leafTable.find(key);
    if (at >= 0) releaseList(this.#space, this.#space.words[at + ENTRY.RULES_LEAF_LIST] ?? 0);
    const [first] = leaf.rules;
    if (first === undefined) {
      removeLeaf(pair, leaf);
      this.#leafTable.delete(key);
      return;
    }
    const records = sourcePortRecords(leaf.rules);
    const list = records.length === 0 ? 0 : writeList(this.#space, records, CONDITION_LIST);
    this.#leafTable.set([...key, rankOf(first), first.number, verdictWord(first), list]);
  }
}

function leafOf({ only, more }: Pair, key: number): Leaf | undefined {
  return only?.key === key ? only : more?.get(key);
}

function addLeaf(pair: Pair, leaf: Leaf): Leaf {
  if (pair.only === null && pair.more === null) pair.only = leaf;
  else {
    pair.more ??= new Map();
    pair.more.set(leaf.key, leaf);
  }
  return leaf;
}

function removeLeaf(pair: Pair, leaf: Leaf): void {
  if (pair.only === leaf) pair.only = null;
  else pair.more?.delete(leaf.key);
}

function leavesIn({ only, more }: Pair): number {
  return (only === null ? 0 : 1) + (more?.size ?? 0);
}

/** Of rules in order, those up to the first that asks for no source port; none when that is the first. */
function sourcePortRecords(rules: readonly RuleRow[]): number[][] {
  const out: number[][] = [];
  for (const row of rules) {
    const ranges = comparesSourcePort(row) ? row.sourcePorts : [{ first: 0, last: 65_535 }];
    if (out.length === 0 && !comparesSourcePort(row)) return [];
    for (const { first, last } of ranges)
      out.push([rankOf(row), row.number, verdictWord(row), ((first << 16) | last) >>> 0]);
    if (!comparesSourcePort(row)) return out;
  }
  return out;
}
