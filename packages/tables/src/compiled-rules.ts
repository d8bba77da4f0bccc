// SPDX-License-Identifier: Apache-2.0
// The rule table compiled for look-up, once per revision: addresses → elements → (source, destination) pair → protocol and port of
// entry → port cells → rule. Cost grows with how deeply prefixes nest, not with the number of rules.
//
// The kernel's table can be made in the same shape: two longest-prefix matches, one hash look-up per pair of elements around the
// packet's addresses, one search in port cells.
import type { RuleRow } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import type { AddressIndex } from './address-index.js';
import { ANY_ELEMENT, ElementNumbers, ruleElements } from './rule-elements.js';
import { ANY, type RankedRule, RuleGroups } from './rule-groups.js';
import type { RuleLookup } from './rule-lookup.js';
import { comparePrecedence, type RuleMatch, toMatch } from './rule-match.js';

/** A rule table compiled for look-up. Agrees with ReferenceRules on every packet. */
export class CompiledRules implements RuleLookup {
  readonly size: number;
  readonly #vrfs = new Map<number, VrfRules>();

  constructor(rules: readonly RuleRow[]) {
    this.size = rules.length;
    const byVrf = new Map<number, RuleRow[]>();
    for (const rule of rules) {
      const rows = byVrf.get(rule.vrf);
      if (rows === undefined) byVrf.set(rule.vrf, [rule]);
      else rows.push(rule);
    }
    for (const [vrf, rows] of byVrf) this.#vrfs.set(vrf, new VrfRules(rows.sort(comparePrecedence)));
  }

  lookup(tuple: Tuple, port: number): RuleMatch | null {
    const row = this.#vrfs.get(tuple.vrf)?.find(tuple, port);
    return row === undefined ? null : toMatch(row, tuple, port);
  }

  lookupAnyPort(tuple: Tuple): RuleMatch | null {
    const row = this.#vrfs.get(tuple.vrf)?.find(tuple, null);
    return row === undefined ? null : toMatch(row, tuple, null);
  }
}

/** The rules of one VRF; a rule's rank is its place in the order of precedence. */
class VrfRules {
  readonly #rows: readonly RuleRow[];
  readonly #sources: AddressIndex;
  readonly #destinations: AddressIndex;
  readonly #groups: RuleGroups;
  /** The same rules without appliedTo; made apart only when a rule has one. */
  readonly #anyPort: RuleGroups;

  constructor(rows: readonly RuleRow[]) {
    this.#rows = rows;
    const sources = new ElementNumbers();
    const destinations = new ElementNumbers();
    const ranked = rows.map((row, rank): RankedRule => {
      const elements = ruleElements(sources, destinations, row);
      return { ...elements, rank, protocols: anyOf(row.protocols), ports: anyOf(row.appliedTo) };
    });
    this.#sources = sources.toIndex();
    this.#destinations = destinations.toIndex();
    const conditions = rows.map((row) => ({ source: row.sourcePorts, destination: row.destinationPorts }));
    this.#groups = new RuleGroups(ranked, conditions);
    const restricted = rows.some((row) => row.appliedTo.length > 0);
    this.#anyPort = restricted
      ? new RuleGroups(
          ranked.map((rule) => ({ ...rule, ports: ANY_LIST })),
          conditions,
        )
      : this.#groups;
  }

  find(tuple: Tuple, port: number | null): RuleRow | undefined {
    const from = [ANY_ELEMENT];
    const to = [ANY_ELEMENT];
    this.#sources.collect(tuple.src, from);
    this.#destinations.collect(tuple.dst, to);
    const around = { from, to, none: this.#rows.length };
    const rank =
      port === null ? this.#anyPort.find(tuple, ANY, around) : this.#groups.find(tuple, port, around);
    return this.#rows[rank];
  }
}

const ANY_LIST: readonly number[] = [ANY];

function anyOf(values: readonly number[]): readonly number[] {
  return values.length === 0 ? ANY_LIST : values;
}
