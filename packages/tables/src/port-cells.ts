// SPDX-License-Identifier: Apache-2.0
// Of rules that differ in their ports only: the first that matches. Port ranges cut one axis into cells; each cell lists its
// candidates by rank and ends at the first that needs nothing else.
import type { PortRange } from '@detour/contracts';

/** The port conditions of one rule; an empty list means any. */
export interface PortConditions {
  readonly source: readonly PortRange[];
  readonly destination: readonly PortRange[];
}
type Axis = 'source' | 'destination';

/** Up to this many candidates are tried in turn. */
const SHORT_LIST = 6;
/** Cells may hold this many entries per rule before the plain list is kept: a bound on memory against quadratic tables. */
const ENTRIES_PER_RULE = 64;

export class PortCells {
  readonly #conditions: readonly PortConditions[];
  readonly #axis: Axis;
  readonly #starts: Uint16Array;
  readonly #cells: readonly (readonly number[])[];
  /** The first rank without any port condition, or -1: all that a protocol without ports can match. */
  readonly #portless: number;
  /** The lowest rank in here. */
  readonly best: number;

  /** `ranks` ascending, into `conditions`. */
  constructor(ranks: readonly number[], conditions: readonly PortConditions[]) {
    this.#conditions = conditions;
    this.best = ranks[0] ?? Number.POSITIVE_INFINITY;
    this.#portless =
      ranks.find((rank) => {
        const one = conditions[rank];
        return one !== undefined && one.source.length === 0 && one.destination.length === 0;
      }) ?? -1;
    const restricted = (axis: Axis) =>
      ranks.reduce((sum, rank) => sum + (conditions[rank]?.[axis].length ? 1 : 0), 0);
    this.#axis = restricted('source') > restricted('destination') ? 'source' : 'destination';
    const cut = ranks.length > SHORT_LIST ? this.#cut(ranks) : null;
    this.#starts = cut?.starts ?? Uint16Array.of(0);
    this.#cells = cut?.cells ?? [ranks];
  }

  /** Null when the cells would grow past their bound. */
  #cut(ranks: readonly number[]): { starts: Uint16Array; cells: number[][] } | null {
    const bounds = new Set<number>([0]);
    for (const rank of ranks) {
      for (const range of this.#conditions[rank]?.[this.#axis] ?? []) {
        bounds.add(range.first);
        if (range.last < 65535) bounds.add(range.last + 1);
      }
    }
    const starts = Uint16Array.from(bounds).sort();
    const cells = Array.from(starts, (): number[] => []);
    // open[i]: the first cell at or after i that still takes candidates
    const open = Int32Array.from({ length: cells.length + 1 }, (_, i) => i);
    const nextOpen = (from: number) => {
      let at = from;
      while (open[at] !== at) {
        open[at] = open[open[at] ?? at] ?? at;
        at = open[at] ?? at;
      }
      return at;
    };
    let budget = ENTRIES_PER_RULE * (ranks.length + 16);
    for (const rank of ranks) {
      const conditions = this.#conditions[rank];
      if (conditions === undefined) continue;
      const other = this.#axis === 'source' ? conditions.destination : conditions.source;
      const own = conditions[this.#axis];
      for (const { first, last } of own.length === 0 ? [{ first: 0, last: 65535 }] : own) {
        const end = cellOf(starts, last) + 1;
        for (let cell = nextOpen(cellOf(starts, first)); cell < end; cell = nextOpen(cell + 1)) {
          const entries = cells[cell];
          if (entries === undefined) break;
          if (entries.at(-1) !== rank) entries.push(rank);
          if (--budget < 0) return null;
          if (other.length === 0) open[cell] = cell + 1;
        }
      }
    }
    return { starts, cells };
  }

  /** The lowest rank below `limit` that matches, or -1. `ported`: the protocol has ports. */
  find(sport: number, dport: number, ported: boolean, limit: number): number {
    if (!ported) return this.#portless < limit ? this.#portless : -1;
    const port = this.#axis === 'source' ? sport : dport;
    for (const rank of this.#cells[cellOf(this.#starts, port)] ?? []) {
      if (rank >= limit) return -1;
      const conditions = this.#conditions[rank];
      if (conditions && holds(conditions.source, sport) && holds(conditions.destination, dport)) return rank;
    }
    return -1;
  }
}

function holds(ranges: readonly PortRange[], port: number): boolean {
  if (ranges.length === 0) return true;
  for (const range of ranges) if (range.first <= port && port <= range.last) return true;
  return false;
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
