// SPDX-License-Identifier: Apache-2.0
// Of many rules that differ in their ports only: the few that a packet can match. Port ranges cut one axis into cells; each cell
// lists its candidates by rank and ends at the first that needs nothing else.
import type { PortRange } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import { hasPorts } from './rule-match.js';

/** The port conditions of one rule; an empty list means any. */
export interface PortConditions {
  readonly source: readonly PortRange[];
  readonly destination: readonly PortRange[];
}
type Axis = 'source' | 'destination';

/** Cells may hold this many entries per rule before the plain list is kept: a bound on memory against quadratic tables. */
const ENTRIES_PER_RULE = 64;

/** Whether a packet meets port conditions; any condition needs a protocol with ports. */
export function portsHold({ source, destination }: PortConditions, tuple: Tuple): boolean {
  if (source.length === 0 && destination.length === 0) return true;
  return hasPorts(tuple.proto) && rangesHold(source, tuple.sport) && rangesHold(destination, tuple.dport);
}

function rangesHold(ranges: readonly PortRange[], port: number): boolean {
  if (ranges.length === 0) return true;
  for (const range of ranges) if (range.first <= port && port <= range.last) return true;
  return false;
}

export class PortCells {
  readonly #axis: Axis;
  readonly #starts: Uint16Array;
  readonly #cells: readonly (readonly number[])[];
  /** The first rank without any port condition: all that a protocol without ports can match. */
  readonly #portless: readonly number[];

  /** `ranks` ascending, into `conditions`. */
  constructor(ranks: readonly number[], conditions: readonly PortConditions[]) {
    const has = (rank: number, axis: Axis) => (conditions[rank]?.[axis].length ?? 0) > 0;
    const portless = ranks.find((rank) => !has(rank, 'source') && !has(rank, 'destination'));
    this.#portless = portless === undefined ? [] : [portless];
    const count = (axis: Axis) => ranks.filter((rank) => has(rank, axis)).length;
    this.#axis = count('source') > count('destination') ? 'source' : 'destination';
    const cut = cutCells(ranks, conditions, this.#axis);
    this.#starts = cut?.starts ?? Uint16Array.of(0);
    this.#cells = cut?.cells ?? [ranks];
  }

  /** Ranks, ascending, among which is the first that matches. */
  candidates(tuple: Tuple): readonly number[] {
    if (!hasPorts(tuple.proto)) return this.#portless;
    return this.#cells[cellOf(this.#starts, this.#axis === 'source' ? tuple.sport : tuple.dport)] ?? [];
  }
}

/** Null when the cells would grow past their bound. */
function cutCells(
  ranks: readonly number[],
  conditions: readonly PortConditions[],
  axis: Axis,
): { starts: Uint16Array; cells: number[][] } | null {
  const starts = cellStarts(ranks, conditions, axis);
  const cells = Array.from(starts, (): number[] => []);
  const nextOpen = openCells(cells.length);
  let budget = ENTRIES_PER_RULE * (ranks.length + 16);
  for (const rank of ranks) {
    const rule = conditions[rank];
    if (rule === undefined) continue;
    const closes = (axis === 'source' ? rule.destination : rule.source).length === 0;
    for (const { first, last } of rule[axis].length === 0 ? [{ first: 0, last: 65535 }] : rule[axis]) {
      const end = cellOf(starts, last);
      for (let cell = nextOpen.from(cellOf(starts, first)); cell <= end; cell = nextOpen.from(cell + 1)) {
        const entries = cells[cell];
        if (entries === undefined || --budget < 0) return null;
        if (entries[entries.length - 1] !== rank) entries.push(rank);
        if (closes) nextOpen.close(cell);
      }
    }
  }
  return { starts, cells };
}

/** Where cells begin: at each range's first port, and after its last. */
function cellStarts(
  ranks: readonly number[],
  conditions: readonly PortConditions[],
  axis: Axis,
): Uint16Array {
  const starts = new Set<number>([0]);
  for (const rank of ranks) {
    for (const range of conditions[rank]?.[axis] ?? []) {
      starts.add(range.first);
      if (range.last < 65535) starts.add(range.last + 1);
    }
  }
  return Uint16Array.from(starts).sort();
}

/** Which cells still take candidates (union-find over closed ones). */
function openCells(count: number): { from(cell: number): number; close(cell: number): void } {
  const next = Int32Array.from({ length: count + 1 }, (_, i) => i);
  return {
    from: (cell) => {
      let at = cell;
      while (next[at] !== at) {
        next[at] = next[next[at] ?? at] ?? at;
        at = next[at] ?? at;
      }
      return at;
    },
    close: (cell) => {
      next[cell] = cell + 1;
    },
  };
}

/** The cell that contains a port. */
function cellOf(starts: Uint16Array, port: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((starts[middle] ?? 0) <= port) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
