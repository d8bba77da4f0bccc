// SPDX-License-Identifier: Apache-2.0
/** Finds rules of one priority that can match the same packet, without comparing all with all. */
import { type AddressRange, parsePrefix, prefixRange } from './address.js';
import type { PortRange } from './match-scalar.js';
import type { Rule } from './schema.js';
import type { ResolvedSide } from './topology.js';

/** A rule with its groups looked up. */
export interface Candidate {
  readonly rule: Rule;
  readonly source: ResolvedSide;
  readonly destination: ResolvedSide;
}

interface Side {
  readonly ranges: readonly AddressRange[];
  readonly guests: readonly string[];
}

const ALL: readonly AddressRange[] = [
  { family: 4, lo: 0n, hi: (1n << 32n) - 1n },
  { family: 6, lo: 0n, hi: (1n << 128n) - 1n },
];

function toSide(side: ResolvedSide): Side {
  if (side.any) return { ranges: ALL, guests: [] };
  const ranges = side.prefixes.flatMap((text) => {
    const prefix = parsePrefix(text);
    return prefix === undefined ? [] : [prefixRange(prefix)];
  });
  return { ranges, guests: side.guests };
}

function sidesMeet(a: Side, b: Side): boolean {
  if (a.guests.some((guest) => b.guests.includes(guest))) return true;
  // A guest's addresses need not be known here: it can have any that the other side names.
  if ((a.guests.length > 0 && b.ranges.length > 0) || (b.guests.length > 0 && a.ranges.length > 0))
    return true;
  return a.ranges.some((x) => b.ranges.some((y) => x.family === y.family && x.lo <= y.hi && y.lo <= x.hi));
}

function portsMeet(a: readonly PortRange[], b: readonly PortRange[]): boolean {
  if (a.length === 0 || b.length === 0) return true;
  return a.some(([lo, hi]) => b.some(([otherLo, otherHi]) => lo <= otherHi && otherLo <= hi));
}

function portRefsMeet(a: Rule['appliedTo'], b: Rule['appliedTo']): boolean {
  if (a.length === 0 || b.length === 0) return true;
  return a.some((x) => b.some((y) => x.gateway === y.gateway && x.port === y.port));
}

interface Prepared<T extends Candidate> {
  readonly candidate: T;
  readonly order: number;
  readonly source: Side;
  readonly destination: Side;
}

function canBothMatch(a: Prepared<Candidate>, b: Prepared<Candidate>): boolean {
  const [x, y] = [a.candidate.rule, b.candidate.rule];
  if (x.match.protocol !== null && y.match.protocol !== null && x.match.protocol !== y.match.protocol)
    return false;
  return (
    portsMeet(x.match.destinationPorts, y.match.destinationPorts) &&
    portsMeet(x.match.sourcePorts, y.match.sourcePorts) &&
    portRefsMeet(x.appliedTo, y.appliedTo) &&
    sidesMeet(a.source, b.source) &&
    sidesMeet(a.destination, b.destination)
  );
}

/**
 * Pairs whose destinations can meet: prefixes nest or are disjoint, so those that enclose the next one form a stack.
 * Rules with guests as destination meet everybody.
 */
function* destinationPairs<T extends Candidate>(
  group: readonly Prepared<T>[],
): Generator<[Prepared<T>, Prepared<T>]> {
  for (const family of [4, 6] as const) {
    const items = group
      .flatMap((prepared) => {
        const ranges = prepared.destination.guests.length > 0 ? ALL : prepared.destination.ranges;
        return ranges.filter((range) => range.family === family).map((range) => ({ prepared, range }));
      })
      .sort((a, b) =>
        a.range.lo < b.range.lo ? -1 : a.range.lo > b.range.lo ? 1 : a.range.hi > b.range.hi ? -1 : 1,
      );
    const stack: typeof items = [];
    for (const item of items) {
      while (stack.length > 0 && (stack.at(-1)?.range.hi ?? 0n) < item.range.lo) stack.pop();
      for (const outer of stack) if (outer.prepared !== item.prepared) yield [outer.prepared, item.prepared];
      stack.push(item);
    }
  }
}

/** For each rule that is ambiguous with one before it, the pair of the two, in document order. */
export function findOverlaps<T extends Candidate>(
  candidates: readonly T[],
): { readonly earlier: T; readonly later: T }[] {
  const groups = new Map<string, Prepared<T>[]>();
  for (const [order, candidate] of candidates.entries()) {
    const key = `${candidate.rule.priority} ${candidate.rule.match.vrf}`;
    const group = groups.get(key) ?? [];
    group.push({
      candidate,
      order,
      source: toSide(candidate.source),
      destination: toSide(candidate.destination),
    });
    groups.set(key, group);
  }
  const found = new Map<number, { earlier: Prepared<T>; later: Prepared<T> }>();
  for (const group of groups.values()) {
    for (const [x, y] of destinationPairs(group)) {
      const [earlier, later] = x.order < y.order ? [x, y] : [y, x];
      const known = found.get(later.order);
      if (known !== undefined && known.earlier.order <= earlier.order) continue;
      if (canBothMatch(earlier, later)) found.set(later.order, { earlier, later });
    }
  }
  return [...found.values()]
    .sort((a, b) => a.later.order - b.later.order)
    .map(({ earlier, later }) => ({ earlier: earlier.candidate, later: later.candidate }));
}
