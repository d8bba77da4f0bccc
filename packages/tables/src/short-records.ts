// SPDX-License-Identifier: Apache-2.0
// Rules of a pair that has few, as records of a list: each says whole what it asks for beside addresses (datapath/include/abi-rules.h).
import { abi, type PortRange, type RuleRow } from '@detour/contracts';
import { hasPorts } from './rule-match.js';
import { rankOf, verdictWord } from './rule-words.js';

const LIST = abi.RulesList;
const MATCH = abi.RulesMatch;
const ANY_PORT: readonly PortRange[] = [{ first: 0, last: 65_535 }];

/** More records than this do not make a list. */
export const MOST_SHORT = LIST.RULES_SHORT_LINES * LIST.RULES_LIST_SHORTS;

/** Of rules in order, the best first; ends where there are more than a list may have. */
export function shortRecords(rules: readonly RuleRow[]): number[][] {
  const out: number[][] = [];
  for (const rule of rules) {
    addRecords(rule, out);
    if (out.length > MOST_SHORT) break;
  }
  return out;
}

function addRecords(rule: RuleRow, out: number[][]): void {
  const byPort = rule.sourcePorts.length > 0 || rule.destinationPorts.length > 0;
  const words = [rankOf(rule), rule.number, verdictWord(rule)];
  for (const proto of rule.protocols.length === 0 ? [null] : rule.protocols) {
    if (byPort && proto !== null && !hasPorts(proto)) continue;
    for (const port of rule.appliedTo.length === 0 ? [null] : rule.appliedTo) {
      const match =
        (proto === null ? 0 : MATCH.RULES_MATCH_PROTO | proto) |
        (port === null ? 0 : MATCH.RULES_MATCH_ENTRY | (port << 8)) |
        (byPort ? MATCH.RULES_MATCH_PORTS : 0);
      for (const to of orAny(rule.destinationPorts))
        for (const from of orAny(rule.sourcePorts)) {
          if (out.length > MOST_SHORT) return;
          out.push([...words, match, rangeWord(to), rangeWord(from)]);
        }
    }
  }
}

function orAny(ranges: readonly PortRange[]): readonly PortRange[] {
  return ranges.length === 0 ? ANY_PORT : ranges;
}

function rangeWord({ first, last }: PortRange): number {
  return ((first << 16) | last) >>> 0;
}
