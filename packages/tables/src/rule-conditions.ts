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

/** All conditions of a rule; none when it can match nothing. */
export function conditionsOf(rule: RuleRow): Condition[] {
  const { RULES_ENTRY_ANY, RULES_ENTRY_PORT, RULES_ENTRY_REVERSED } = abi.RulesEntryPort;
  const byPort = asksPorts(rule);
  const ports = portPrefixes(rule);
  const protocols = [...new Set(rule.protocols)].filter((proto) => !byPort || hasPorts(proto));
  const asked = rule.protocols.length === 0 ? [null] : protocols;
  const entries =
    rule.appliedTo.length === 0
      ? [{ entry: RULES_ENTRY_ANY, port: 0 }]
      : [
          { entry: RULES_ENTRY_REVERSED, port: 0 },
          ...[...new Set(rule.appliedTo)].map((port) => ({ entry: RULES_ENTRY_PORT, port })),
        ];
  return asked.flatMap((proto) =>
    entries.flatMap(({ entry, port }) =>
      ports.map(({ length, first }) => ({
        kind: leafKind(length, entry, proto === null ? 0 : 1),
        value: (((proto ?? 0) << 24) | (port << 16) | first) >>> 0,
      })),
    ),
  );
}

/** Whether a source port is still to be compared when a condition holds. */
export function comparesSourcePort(rule: RuleRow): boolean {
  return rule.destinationPorts.length > 0 && rule.sourcePorts.length > 0;
}

function asksPorts(rule: RuleRow): boolean {
  return rule.destinationPorts.length > 0 || rule.sourcePorts.length > 0;
}

function portPrefixes(rule: RuleRow): { length: number; first: number }[] {
  if (!asksPorts(rule)) return [{ length: 0, first: 0 }];
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
function joinRanges(ranges: readonly PortRange[]): PortRange[] {
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
