// SPDX-License-Identifier: Apache-2.0
// The reference rule look-up: every rule in turn, by precedence. Slow and obvious; compiled and kernel look-ups are tested against it.
import type { RuleRow } from '@detour/contracts';
import type { Tuple } from '@detour/core';
import type { RuleLookup } from './rule-lookup.js';
import { comparePrecedence, type RuleMatch, ruleMatches, toMatch } from './rule-match.js';

export class ReferenceRules implements RuleLookup {
  readonly #rules: readonly RuleRow[];

  constructor(rules: readonly RuleRow[]) {
    this.#rules = [...rules].sort(comparePrecedence);
  }

  get size(): number {
    return this.#rules.length;
  }

  lookup(tuple: Tuple, port: number): RuleMatch | null {
    const row = this.#rules.find((rule) => ruleMatches(rule, tuple, port));
    return row === undefined ? null : toMatch(row, tuple, port);
  }

  lookupAnyPort(tuple: Tuple): RuleMatch | null {
    const row = this.#rules.find((rule) => ruleMatches(rule, tuple, null));
    return row === undefined ? null : toMatch(row, tuple, null);
  }
}
