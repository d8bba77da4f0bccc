// SPDX-License-Identifier: Apache-2.0
// Look-ups in an image of a rule table, step by step as datapath/lib/rules.h does them; but where the datapath has bounds and asks, this goes on.
import { abi, type RuleRow } from '@detour/contracts';
import { isMappedV4, type Tuple } from '@detour/core';
import { type EntryShape, findEntry, LEAF, PAIR, PREFIX4, PREFIX6 } from './line-hash.js';
import { LINE_WORDS } from './line-space.js';
import { leafKind } from './rule-conditions.js';
import type { RuleLookup } from './rule-lookup.js';
import { hasPorts, type RuleMatch, toMatch } from './rule-match.js';

const HEAD = abi.RulesHead;
const ENTRY = abi.RulesEntry;
const LIST = abi.RulesList;
const MATCH = abi.RulesMatch;
const { RULES_ENTRY_ANY, RULES_ENTRY_PORT, RULES_ENTRY_REVERSED } = abi.RulesEntryPort;
const { RULES_LENGTHS6, RULES_LENGTHS6_LINES } = abi.RulesLengths;

/** Memory that begins with an image; and the rows that it was made of. */
export interface ImageSource {
  readonly words: Uint32Array;
  row(number: number): RuleRow | undefined;
}

interface Best {
  rank: number;
  rule: number;
}

/** What one look-up asks beside addresses. */
interface Asked {
  readonly proto: number;
  readonly sport: number;
  readonly dport: number;
  readonly ports: boolean;
  readonly entry: number;
  readonly port: number;
}

/** Agrees with ReferenceRules on every packet. */
export class ImageRules implements RuleLookup {
  constructor(private readonly source: ImageSource) {}

  get size(): number {
    return this.source.words[HEAD.RULES_COUNT] ?? 0;
  }

  lookup(tuple: Tuple, port: number): RuleMatch | null {
    return this.#match(tuple, port);
  }

  lookupAnyPort(tuple: Tuple): RuleMatch | null {
    return this.#match(tuple, null);
  }

  #match(tuple: Tuple, port: number | null): RuleMatch | null {
    const rule = this.find(tuple, port);
    if (rule === 0) return null;
    const row = this.source.row(rule);
    if (row === undefined) throw new RangeError(`the image names rule ${rule}, which is not in its table`);
    return toMatch(row, tuple, port);
  }

  /** Number of the rule that decides; 0 when none matches. `port` null: appliedTo does not count. */
  find(tuple: Tuple, port: number | null): number {
    const { words } = this.source;
    if (tuple.vrf >= (words[HEAD.RULES_VRFS] ?? 0)) return 0;
    const lengths = words[(words[HEAD.RULES_VRFS_AT] ?? 0) * LINE_WORDS + tuple.vrf] ?? 0;
    if (lengths === 0) return 0;
    const asked: Asked = {
      ...{ proto: tuple.proto, sport: tuple.sport, dport: tuple.dport, ports: hasPorts(tuple.proto) },
      entry: port === null ? RULES_ENTRY_REVERSED : RULES_ENTRY_PORT,
      port: port ?? 0,
    };
    const from = elementsAround(words, { lengths, vrf: tuple.vrf, side: 0 }, tuple.src);
    const to = elementsAround(words, { lengths, vrf: tuple.vrf, side: 1 }, tuple.dst);
    const best: Best = { rank: 0, rule: 0 };
    const pairs = tableAt(words, HEAD.RULES_PAIRS_AT);
    const key = [0, 0];
    for (const source of from) {
      key[0] = source;
      for (const destination of to) {
        key[1] = destination;
        const pair = findEntry(words, PAIR, pairs, key);
        if (pair < 0 || (best.rule !== 0 && (words[pair + ENTRY.RULES_PAIR_RANK] ?? 0) > best.rank)) continue;
        searchPair(words, pair, asked, best);
      }
    }
    return best.rule;
  }
}

function tableAt(words: Uint32Array, head: number): { at: number; lines: number } {
  return { at: words[head] ?? 0, lines: words[head + 1] ?? 0 };
}

/** The elements around an address; the first is the VRF's own, which means any. */
function elementsAround(
  words: Uint32Array,
  { lengths, vrf, side }: { readonly lengths: number; readonly vrf: number; readonly side: 0 | 1 },
  address: Uint8Array,
): number[] {
  const v4 = isMappedV4(address);
  const first = lengths + (v4 ? side : RULES_LENGTHS6 + side * RULES_LENGTHS6_LINES);
  const byteAt = (i: number): number =>
    ((words[first * LINE_WORDS + (i >>> 2)] ?? 0) >>> (8 * (i & 3))) & 0xff;
  const shape: EntryShape = v4 ? PREFIX4 : PREFIX6;
  const table = tableAt(words, v4 ? HEAD.RULES_PREFIX4_AT : HEAD.RULES_PREFIX6_AT);
  const out = [vrf];
  for (let i = 1, count = byteAt(0); i <= count; i++) {
    const entry = findEntry(
      words,
      shape,
      table,
      prefixEntryKey({ address, v4, length: byteAt(i) }, vrf, side),
    );
    if (entry >= 0) addElements(words, words[entry + shape.mark] ?? 0, out);
  }
  return out;
}

/** Key words of a prefix: its address, masked, and its place. `length` counts in the family's own width. */
export function prefixEntryKey(
  { address, v4, length }: { readonly address: Uint8Array; readonly v4: boolean; readonly length: number },
  vrf: number,
  side: 0 | 1,
): number[] {
  const place =
    ((vrf << ENTRY.RULES_PLACE_VRF_SHIFT) | (length << ENTRY.RULES_PLACE_LENGTH_SHIFT) | side) >>> 0;
  const key: number[] = [];
  for (let word = v4 ? 3 : 0; word < 4; word++) {
    const bits = v4 ? length : length - 32 * word;
    const value =
      ((address[4 * word] ?? 0) << 24) |
      ((address[4 * word + 1] ?? 0) << 16) |
      ((address[4 * word + 2] ?? 0) << 8) |
      (address[4 * word + 3] ?? 0);
    key.push(bits <= 0 ? 0 : (bits >= 32 ? value : value & (-1 << (32 - bits))) >>> 0);
  }
  key.push(place);
  return key;
}

function addElements(words: Uint32Array, value: number, out: number[]): void {
  if ((value & ENTRY.RULES_VALUE_LIST) === 0) {
    out.push(value);
    return;
  }
  for (let line = value & ~ENTRY.RULES_VALUE_LIST; line !== 0; ) {
    const at = line * LINE_WORDS;
    const count = words[at + LIST.RULES_LIST_COUNT] ?? 0;
    for (let i = 0; i < count; i++) out.push(words[at + LIST.RULES_LIST_AT + i] ?? 0);
    line = words[at + LIST.RULES_LIST_NEXT] ?? 0;
  }
}

/** The elements in a prefix's value. */
export function elementsOf(words: Uint32Array, value: number): number[] {
  const out: number[] = [];
  if (value !== 0) addElements(words, value, out);
  return out;
}

/** Rules of a pair that has few. */
function searchShort(words: Uint32Array, first: number, asked: Asked, best: Best): void {
  for (let line = first; line !== 0; ) {
    const list = line * LINE_WORDS;
    const count = words[list + LIST.RULES_LIST_COUNT] ?? 0;
    for (let i = 0; i < count; i++) {
      const one = list + LIST.RULES_LIST_AT + i * LIST.RULES_SHORT_WORDS;
      const [rank, rule] = [words[one] ?? 0, words[one + 1] ?? 0];
      if (!isBetter(rank, rule, best)) return;
      if (!shortHolds(words, one, asked)) continue;
      Object.assign(best, { rank, rule });
      return;
    }
    line = words[list + LIST.RULES_LIST_NEXT] ?? 0;
  }
}

function shortHolds(words: Uint32Array, one: number, asked: Asked): boolean {
  const match = words[one + 3] ?? 0;
  if (match & MATCH.RULES_MATCH_PROTO && (match & 0xff) !== asked.proto) return false;
  if (
    match & MATCH.RULES_MATCH_ENTRY &&
    asked.entry === RULES_ENTRY_PORT &&
    ((match >>> 8) & 0xff) !== asked.port
  )
    return false;
  if ((match & MATCH.RULES_MATCH_PORTS) === 0) return true;
  return (
    asked.ports && inRange(words[one + 4] ?? 0, asked.dport) && inRange(words[one + 5] ?? 0, asked.sport)
  );
}

function inRange(range: number, port: number): boolean {
  return port >= range >>> 16 && port <= (range & 0xffff);
}

function searchPair(words: Uint32Array, pair: number, asked: Asked, best: Best): void {
  const kinds = words[pair + ENTRY.RULES_PAIR_KINDS] ?? 0;
  const lengths = words[pair + ENTRY.RULES_PAIR_LENGTHS] ?? 0;
  if (kinds === ENTRY.RULES_PAIR_SHORT) {
    searchShort(words, lengths, asked, best);
    return;
  }
  const leaves = tableAt(words, HEAD.RULES_LEAVES_AT);
  const key = [0, words[pair + 1] ?? 0, 0];
  const leaf = (kind: number, value: number): void => {
    key[0] = ((words[pair] ?? 0) | (kind << ENTRY.RULES_LEAF_KIND_SHIFT)) >>> 0;
    key[2] = value >>> 0;
    const at = findEntry(words, LEAF, leaves, key);
    if (at >= 0) searchLeaf(words, at, asked, best);
  };
  for (const exact of [0, 1] as const) {
    for (const entry of [RULES_ENTRY_ANY, asked.entry]) {
      const bit = leafKind(0, entry, exact);
      const value = (exact ? asked.proto << 24 : 0) | (entry === RULES_ENTRY_PORT ? asked.port << 16 : 0);
      if ((kinds >>> bit) & 1) leaf(bit, value);
      if (!asked.ports) continue;
      for (const [shift, port, first] of [
        [6, asked.dport, 1],
        [12, asked.sport, 17],
      ] as const) {
        // biome-ignore format: short
        if (((kinds >>> (bit + shift)) & 1) === 0) continue;
        for (let bits = 16; bits >= 1; bits--) {
          if (((lengths >>> (first + bits - 2)) & 1) === 0) continue;
          leaf(leafKind(first + bits - 1, entry, exact), value | (port & (0xffff0000 >>> bits) & 0xffff));
        }
      }
    }
  }
}

function searchLeaf(words: Uint32Array, at: number, asked: Asked, best: Best): void {
  const rank = words[at + ENTRY.RULES_LEAF_RANK] ?? 0;
  const rule = words[at + ENTRY.RULES_LEAF_RULE] ?? 0;
  if (!isBetter(rank, rule, best)) return;
  let line = words[at + ENTRY.RULES_LEAF_LIST] ?? 0;
  if (line === 0) Object.assign(best, { rank, rule });
  while (line !== 0) {
    const list = line * LINE_WORDS;
    const count = words[list + LIST.RULES_LIST_COUNT] ?? 0;
    for (let i = 0; i < count; i++) {
      const one = list + LIST.RULES_LIST_AT + i * LIST.RULES_CONDITION_WORDS;
      const [itsRank, itsRule, range] = [words[one] ?? 0, words[one + 1] ?? 0, words[one + 3] ?? 0];
      if (!isBetter(itsRank, itsRule, best)) return;
      if (asked.sport < range >>> 16 || asked.sport > (range & 0xffff)) continue;
      Object.assign(best, { rank: itsRank, rule: itsRule });
      return;
    }
    line = words[list + LIST.RULES_LIST_NEXT] ?? 0;
  }
}

function isBetter(rank: number, rule: number, best: Best): boolean {
  return best.rule === 0 || rank < best.rank || (rank === best.rank && rule < best.rule);
}
