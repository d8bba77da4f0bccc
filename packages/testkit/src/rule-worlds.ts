// SPDX-License-Identifier: Apache-2.0
// Random rule tables and packets that meet them, the same for the same seed: nested prefixes, touching port ranges, equal priorities, wildcards in every
// field, groups that many rules share, several VRFs, both families.
import { RuleAction, RuleRow } from '@detour/contracts';
import type { Tuple } from '@detour/core';

export interface RuleWorld {
  readonly rules: readonly RuleRow[];
  /** One more rule of the kind, with this number. */
  rule(number: number): RuleRow;
  /** A packet, and the port by which it enters; null: a reply's tuple, by any. */
  question(): { readonly tuple: Tuple; readonly port: number | null };
}

const LENGTHS4 = [0, 8, 12, 16, 20, 24, 25, 28, 31, 32] as const;
const LENGTHS6 = [0, 16, 32, 48, 56, 64, 96, 127, 128] as const;
const PROTOCOLS = [1, 6, 6, 6, 17, 17, 58] as const;
const ACTIONS = [RuleAction.ALLOW, RuleAction.DROP, RuleAction.CHAIN, RuleAction.UNRESOLVED] as const;
const VRFS = 3;
const GROUPS = 3;
const GROUP_SIZE = 70;

/** Bits of the widest prefix, IPv4 counted as in IPv6; 0: any address. */
function widthOf(prefixes: RuleRow['sources']): number {
  return prefixes.length === 0 ? 0 : Math.min(...prefixes.map(({ bits }) => bits));
}

/** Numbers from 0 up to a limit (mulberry32). */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/**
 * `mixed`: six priorities by chance, so that of many rules the few widest of the highest decide. `specific`: the narrower a rule's prefixes, the higher its
 * priority, so that very many rules decide, each some packets; the reference goes far down its list for them.
 */
export type RuleOrder = 'mixed' | 'specific';

export function makeRuleWorld(size: number, seed: number, order: RuleOrder = 'mixed'): RuleWorld {
  const below = randomNumbers(seed);
  const pick = <T>(values: readonly T[]): T => {
    const value = values[below(values.length)];
    if (value === undefined) throw new RangeError('nothing to pick from');
    return value;
  };
  const spread = Math.max(4, Math.min(256, size)); // how many values a byte of an address takes
  const address = (): Uint8Array => {
    const out = new Uint8Array(16);
    if (below(3) > 0) {
      out.set([0xff, 0xff, 10, below(4), below(spread), below(256)], 10);
      if (below(8) === 0) out[12] = 255 * below(2);
      return out;
    }
    out.set([0x20, 0x01, 0x0d, 0xb8, 0, below(4), 0, below(spread)]);
    out[15] = below(256);
    if (below(8) === 0) out[0] = 255 * below(2);
    return out;
  };
  const prefix = () => {
    const base = address();
    const v4 = base[10] === 255 && base[0] === 0;
    return { address: base, bits: v4 ? 96 + pick(LENGTHS4) : pick(LENGTHS6) };
  };
  const groups = Array.from({ length: GROUPS }, () => Array.from({ length: GROUP_SIZE }, prefix));
  const prefixes = () => {
    const kind = below(10);
    if (kind < 3) return [];
    if (kind < 8) return [prefix()];
    return kind < 9 ? [prefix(), prefix(), prefix()] : pick(groups);
  };
  const range = () => {
    const [first, kind] = [below(65_536), below(4)];
    if (kind === 0) return { first, last: first };
    if (kind === 1) return { first: first & ~255, last: first | 255 }; // touches those beside it
    return kind === 2 ? { first, last: 65_535 } : { first: Math.min(80, first), last: Math.max(80, first) };
  };
  const ranges = (some: number) => (below(10) < some ? Array.from({ length: 1 + below(2) }, range) : []);
  const ports = () => (below(10) < 7 ? [] : Array.from({ length: 1 + below(2) }, () => 1 + below(4)));
  const rule = (number: number): RuleRow => {
    const action = pick(ACTIONS);
    const [level, vrf] = [below(6), 1 + below(VRFS)];
    const ends = { sources: prefixes(), destinations: prefixes() };
    const narrow = widthOf(ends.sources) + widthOf(ends.destinations);
    return RuleRow.fromPartial({
      ...{ number, action, priority: order === 'mixed' ? level * 1000 : 6 * narrow + level, vrf },
      ...ends,
      protocols: below(2) === 0 ? [] : [pick(PROTOCOLS)],
      sourcePorts: ranges(1),
      destinationPorts: ranges(5),
      appliedTo: ports(),
      chain: action === RuleAction.CHAIN ? 1 + below(60) : 0,
      dropUnresolved: below(2) === 0,
    });
  };
  const rules = Array.from({ length: size }, (_, i) => rule(i + 1));
  /** In the rule's prefix if it has one, near its edges more often than not. */
  const inside = (list: RuleRow['sources']): Uint8Array => {
    if (list.length === 0) return address();
    const { address: base, bits } = pick(list);
    const out = Uint8Array.from(base);
    const fill = pick([0, 255, below(256)]);
    for (let bit = bits; bit < 128; bit++) {
      const mask = 0x80 >> (bit & 7);
      const byte = out[bit >> 3] ?? 0;
      out[bit >> 3] = fill & mask ? byte | mask : byte & ~mask;
    }
    return out;
  };
  const portOf = (list: RuleRow['sourcePorts']): number => {
    if (list.length === 0) return below(65_536);
    const { first, last } = pick(list);
    return Math.min(65_535, Math.max(0, pick([first, last, first - 1, last + 1])));
  };
  const question = () => {
    const near = pick(rules);
    const tuple: Tuple = {
      vrf: below(20) === 0 ? VRFS + 1 : near.vrf,
      src: below(8) === 0 ? address() : inside(near.sources),
      dst: below(8) === 0 ? address() : inside(near.destinations),
      sport: portOf(near.sourcePorts),
      dport: portOf(near.destinationPorts),
      proto: near.protocols[0] ?? pick(PROTOCOLS),
    };
    return { tuple, port: below(4) === 0 ? null : (near.appliedTo[0] ?? 1 + below(4)) };
  };
  return { rules, rule, question };
}
