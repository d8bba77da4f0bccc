// SPDX-License-Identifier: Apache-2.0
// Rules by the pair of address elements that they need, then by protocol and port of entry: what is left to compare are ports.
import type { Tuple } from '@detour/core';
import { PairMap } from './pair-map.js';
import { PortCells, type PortConditions, portsHold } from './port-cells.js';

/** No condition on protocol or port of entry. */
export const ANY = -1;
/** Up to this many candidates are tried in turn. */
const SHORT_LIST = 6;

/** What of a rule is left once its addresses are elements. Its rank is its place in the order of precedence. */
export interface RankedRule {
  readonly rank: number;
  readonly sources: readonly number[];
  readonly destinations: readonly number[];
  /** [ANY], or the protocols. */
  readonly protocols: readonly number[];
  /** [ANY], or the ports of entry. */
  readonly ports: readonly number[];
}

interface Group {
  readonly proto: number;
  readonly port: number;
  /** Ascending; ends at the first that needs nothing else. */
  readonly ranks: number[];
  closed: boolean;
  cells: PortCells | null; // made when the list is long
}

/** Rules of one VRF as groups. Ranked rules are added in order, then sealed; then it answers. */
export class RuleGroups {
  readonly #conditions: readonly PortConditions[];
  readonly #pairs = new PairMap();
  readonly #groups: Group[][] = [];
  readonly #bestOfPair: number[] = [];
  readonly #bestOfSource: number[] = [];
  readonly #bestOfDestination: number[] = [];

  constructor(rules: readonly RankedRule[], conditions: readonly PortConditions[]) {
    this.#conditions = conditions;
    for (const rule of rules) this.#add(rule);
    for (const pair of this.#groups) {
      for (const group of pair)
        if (group.ranks.length > SHORT_LIST) group.cells = new PortCells(group.ranks, conditions);
    }
  }

  #add({ rank, sources, destinations, protocols, ports }: RankedRule): void {
    const conditions = this.#conditions[rank];
    const total = conditions?.source.length === 0 && conditions.destination.length === 0;
    for (const source of sources) {
      this.#bestOfSource[source] ??= rank;
      for (const destination of destinations) {
        this.#bestOfDestination[destination] ??= rank;
        const pair = this.#pairOf(source, destination, rank);
        for (const proto of protocols)
          for (const port of ports) addToPair(pair, { proto, port, rank, total });
      }
    }
  }

  #pairOf(source: number, destination: number, rank: number): Group[] {
    const known = this.#groups[this.#pairs.get(source, destination)];
    if (known !== undefined) return known;
    const made: Group[] = [];
    this.#bestOfPair.push(rank);
    this.#pairs.set(source, destination, this.#groups.push(made) - 1);
    return made;
  }

  /** The lowest rank below `none` that matches, or `none`. The lists are the elements around the packet's addresses. */
  find(
    tuple: Tuple,
    port: number,
    around: { from: readonly number[]; to: readonly number[]; none: number },
  ): number {
    let best = around.none;
    for (const source of around.from) {
      if ((this.#bestOfSource[source] ?? best) >= best) continue;
      for (const destination of around.to) {
        if ((this.#bestOfDestination[destination] ?? best) >= best) continue;
        const number = this.#pairs.get(source, destination);
        if (number < 0 || (this.#bestOfPair[number] ?? best) >= best) continue;
        const pair = this.#groups[number];
        if (pair !== undefined) best = this.#findInPair(pair, tuple, { port, limit: best });
      }
    }
    return best;
  }

  #findInPair(
    pair: readonly Group[],
    tuple: Tuple,
    { port, limit }: { port: number; limit: number },
  ): number {
    let best = limit;
    for (const group of pair) {
      if ((group.ranks[0] ?? best) >= best) break; // groups are in the order of their first rule
      if (group.proto !== ANY && group.proto !== tuple.proto) continue;
      if (group.port !== ANY && group.port !== port) continue;
      for (const rank of group.cells?.candidates(tuple) ?? group.ranks) {
        if (rank >= best) break;
        const conditions = this.#conditions[rank];
        if (conditions && portsHold(conditions, tuple)) best = rank;
      }
    }
    return best;
  }
}

function addToPair(
  pair: Group[],
  { proto, port, rank, total }: { proto: number; port: number; rank: number; total: boolean },
): void {
  let group = pair.find((other) => other.proto === proto && other.port === port);
  if (group === undefined) {
    group = { proto, port, ranks: [], closed: false, cells: null };
    pair.push(group);
  }
  if (group.closed) return;
  if (group.ranks[group.ranks.length - 1] !== rank) group.ranks.push(rank);
  group.closed = total;
}
