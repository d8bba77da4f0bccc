// SPDX-License-Identifier: Apache-2.0
// The rule table compiled for look-up, once per revision: addresses → elements → (source, destination) pair → protocol and port of
// entry → port cells → rule. Cost grows with how deeply prefixes nest, not with the number of rules.
//
// The kernel's table is made in the same shape: two longest-prefix matches, one hash look-up per pair of elements around the
// packet's addresses, one search in port cells.
import type { RuleRow } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import type { AddressIndex } from './address-index.js';
import { PairMap } from './pair-map.js';
import { PortCells, type PortConditions } from './port-cells.js';
import { ANY_ELEMENT, ElementNumbers, ruleElements } from './rule-elements.js';
import type { RuleLookup } from './rule-lookup.js';
import { comparePrecedence, hasPorts, type RuleMatch, toMatch } from './rule-match.js';

const ANY = -1;

/** Rules of one pair of elements that name the same protocol and port of entry. */
interface Group {
  readonly proto: number; // or ANY
  readonly port: number; // or ANY
  readonly ranks: number[];
  closed: boolean; // its last rule matches everything that comes here
}
interface CompiledGroup {
  readonly proto: number;
  readonly port: number;
  readonly cells: PortCells;
}

/** A rule table compiled for look-up. Agrees with ReferenceRules on every packet. */
export class CompiledRules implements RuleLookup {
  readonly size: number;
  readonly #vrfs = new Map<number, VrfRules>();
  /** The same rules without appliedTo; only made when a rule has one. */
  readonly #anyPort: ReadonlyMap<number, VrfRules>;

  constructor(rules: readonly RuleRow[]) {
    this.size = rules.length;
    const byVrf = new Map<number, RuleRow[]>();
    for (const rule of rules) {
      const rows = byVrf.get(rule.vrf);
      if (rows === undefined) byVrf.set(rule.vrf, [rule]);
      else rows.push(rule);
    }
    const anyPort = new Map<number, VrfRules>();
    for (const [vrf, rows] of byVrf) {
      rows.sort(comparePrecedence);
      const compiled = new VrfRules(rows, true);
      this.#vrfs.set(vrf, compiled);
      const restricted = rows.some((row) => row.appliedTo.length > 0);
      anyPort.set(vrf, restricted ? new VrfRules(rows, false) : compiled);
    }
    this.#anyPort = anyPort;
  }

  lookup(tuple: Tuple, port: number): RuleMatch | null {
    const row = this.#vrfs.get(tuple.vrf)?.find(tuple, port);
    return row === undefined ? null : toMatch(row, tuple, port);
  }

  lookupAnyPort(tuple: Tuple): RuleMatch | null {
    const row = this.#anyPort.get(tuple.vrf)?.find(tuple, ANY);
    return row === undefined ? null : toMatch(row, tuple, null);
  }
}

/** The rules of one VRF; a rule's rank is its place in the order of precedence. */
class VrfRules {
  readonly #rows: readonly RuleRow[];
  readonly #sources: AddressIndex;
  readonly #destinations: AddressIndex;
  readonly #pairs = new PairMap();
  readonly #groups: readonly (readonly CompiledGroup[])[];

  constructor(rows: readonly RuleRow[], withPorts: boolean) {
    this.#rows = rows;
    const sources = new ElementNumbers();
    const destinations = new ElementNumbers();
    const conditions: PortConditions[] = rows.map((row) => ({
      source: row.sourcePorts,
      destination: row.destinationPorts,
    }));
    const groups: Group[][] = [];
    for (const [rank, row] of rows.entries()) {
      const elements = ruleElements(sources, destinations, row);
      const protocols = row.protocols.length === 0 ? [ANY] : new Set(row.protocols);
      const ports = !withPorts || row.appliedTo.length === 0 ? [ANY] : new Set(row.appliedTo);
      const total = row.sourcePorts.length === 0 && row.destinationPorts.length === 0;
      for (const source of elements.sources) {
        for (const destination of elements.destinations) {
          const pair = this.#pairOf(source, destination, groups);
          for (const proto of protocols) {
            for (const port of ports) addToGroup(pair, proto, port, rank, total);
          }
        }
      }
    }
    this.#sources = sources.toIndex();
    this.#destinations = destinations.toIndex();
    this.#groups = groups.map((pair) =>
      pair.map(({ proto, port, ranks }) => ({ proto, port, cells: new PortCells(ranks, conditions) })),
    );
  }

  #pairOf(source: number, destination: number, groups: Group[][]): Group[] {
    const known = groups[this.#pairs.get(source, destination)];
    if (known !== undefined) return known;
    const made: Group[] = [];
    this.#pairs.set(source, destination, groups.push(made) - 1);
    return made;
  }

  find(tuple: Tuple, port: number): RuleRow | undefined {
    const from = [ANY_ELEMENT];
    const to = [ANY_ELEMENT];
    this.#sources.collect(tuple.src, from);
    this.#destinations.collect(tuple.dst, to);
    const ported = hasPorts(tuple.proto);
    let best = this.#rows.length;
    for (const source of from) {
      for (const destination of to) {
        const pair = this.#pairs.get(source, destination);
        if (pair < 0) continue;
        for (const group of this.#groups[pair] ?? []) {
          if (group.cells.best >= best) break; // groups are in the order of their best rule
          if (group.proto !== ANY && group.proto !== tuple.proto) continue;
          if (group.port !== ANY && group.port !== port) continue;
          const rank = group.cells.find(tuple.sport, tuple.dport, ported, best);
          if (rank >= 0) best = rank;
        }
      }
    }
    return this.#rows[best];
  }
}

function addToGroup(pair: Group[], proto: number, port: number, rank: number, total: boolean): void {
  let group = pair.find((other) => other.proto === proto && other.port === port);
  if (group === undefined) {
    group = { proto, port, ranks: [], closed: false };
    pair.push(group);
  }
  if (group.closed) return;
  if (group.ranks.at(-1) !== rank) group.ranks.push(rank);
  group.closed = total;
}
