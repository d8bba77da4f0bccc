// SPDX-License-Identifier: Apache-2.0
// What a rule asks for beside addresses, as the conditions under which the image keeps it (datapath/include/abi-rules.h): protocol, port of entry, and
// port ranges cut into prefixes of the port number.
import { abi, type PortRange, type RuleRow } from '@detour/contracts';
import { hasPorts } from './rule-match.js';

const PORT_BITS = 16;

/** One condition: kind and value as in a leaf. */
export interface Condition {
  readonly kind: number;
  readonly value: number;
}

/** Number of a leaf's kind. `length`: 0 no ports, 1..16 bits of the destination port, 17..32 of the source port. */
export function leafKind(length: number, entry: number, exactProtocol: 0 | 1): number {
  return (length * 3 + entry) * 2 + exactProtocol;
}

/** The classes that a kind belongs to: its bit in a pair's kinds, and its bit in a pair's lengths (0: none). */
export function pairBits(kind: number): { readonly kinds: number; readonly lengths: number } {
  const length = Math.floor(kind / 6);
  const portClass = length === 0 ? 0 : length <= PORT_BITS ? 1 : 2;
  return { kinds: 1 << (portClass * 6 + (kind % 6)), lengths: length === 0 ? 0 : (1 << (length - 1)) >>> 0 };
}

/** Whether a rule can match nothing: it asks for ports, and for protocols that have none. It has no conditions then. */
export function matchesNothing(rule: RuleRow): boolean {
  return asksPorts(rule) && rule.protocols.length > 0 && !rule.protocols.some(hasPorts);
}

/** All conditions of a rule; none when it can match nothing. */
export function conditionsOf(rule: RuleRow): Condition[] {
  const { RULES_ENTRY_ANY, RULES_ENTRY_PORT, RULES_ENTRY_REVERSED } = abi.RulesEntryPort;
  const byPort = asksPorts(rule);
  const ports = byPort ? portPrefixes(rule) : NO_PORTS;
  const restricted = rule.appliedTo.length > 0;
  const entries = restricted ? [...new Set(rule.appliedTo)] : NO_ENTRIES;
  const out: Condition[] = [];
  for (const proto of rule.protocols.length === 0 ? ANY_PROTOCOL : new Set(rule.protocols)) {
    if (proto !== null && byPort && !hasPorts(proto)) continue;
    const exact = proto === null ? 0 : 1;
    const shifted = (proto ?? 0) << 24;
    for (const { length, first } of ports) {
      const entry = restricted ? RULES_ENTRY_REVERSED : RULES_ENTRY_ANY;
      out.push({ kind: leafKind(length, entry, exact), value: (shifted | first) >>> 0 });
      for (const port of entries)
        out.push({
          kind: leafKind(length, RULES_ENTRY_PORT, exact),
          value: (shifted | (port << 16) | first) >>> 0,
        });
    }
  }
  return out;
}

const ANY_PROTOCOL: readonly null[] = [null];
const NO_PORTS: readonly { length: number; first: number }[] = [{ length: 0, first: 0 }];
const NO_ENTRIES: readonly number[] = [];

/** Whether a source port is still to be compared when a condition holds. */
export function comparesSourcePort(rule: RuleRow): boolean {
  return rule.destinationPorts.length > 0 && rule.sourcePorts.length > 0;
}

function asksPorts(rule: RuleRow): boolean {
  return rule.destinationPorts.length > 0 || rule.sourcePorts.length > 0;
}

function portPrefixes(rule: RuleRow): { length: number; first: number }[] {
  const byDestination = rule.destinationPorts.length > 0;
  const ranges = joinRanges(byDestination ? rule.destinationPorts : rule.sourcePorts);
  return ranges.flatMap((range) =>
    cutRange(range).map(({ length, first }) => ({
      length: byDestination ? length : PORT_BITS + length,
      first,
    })),
  );
}

/** The same ports in ranges that neither overlap nor touch. */
function joinRanges(ranges: readonly PortRange[]): readonly PortRange[] {
  if (ranges.length < 2) return ranges;
  const joined: PortRange[] = [];
  for (const range of [...ranges].sort((x, y) => x.first - y.first)) {
    const last = joined[joined.length - 1];
    if (last !== undefined && range.first <= last.last + 1) last.last = Math.max(last.last, range.last);
    else joined.push({ ...range });
  }
  return joined;
}

/** A range as prefixes of 1 to 16 bits: at most 30. */
export function cutRange({ first, last }: PortRange): { length: number; first: number }[] {
  const out: { length: number; first: number }[] = [];
  for (let at = first; at <= last; ) {
    let size = 1;
    while (size < 1 << (PORT_BITS - 1) && at % (2 * size) === 0 && at + 2 * size - 1 <= last) size *= 2;
    out.push({ length: PORT_BITS - Math.log2(size), first: at });
    at += size;
  }
  return out;
}
