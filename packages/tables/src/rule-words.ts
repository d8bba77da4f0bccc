// SPDX-License-Identifier: Apache-2.0
// A rule's rank and verdict as words of an image (datapath/include/abi-rules.h).
import { abi, RuleAction, type RuleRow } from '@detour/contracts';

const ACTIONS: Readonly<Record<RuleAction, number>> = {
  [RuleAction.ALLOW]: abi.RuleAction.RULE_ALLOW,
  [RuleAction.DROP]: abi.RuleAction.RULE_DROP,
  [RuleAction.CHAIN]: abi.RuleAction.RULE_CHAIN,
  [RuleAction.UNRESOLVED]: abi.RuleAction.RULE_UNRESOLVED,
  [RuleAction.UNSPECIFIED]: abi.RuleAction.RULE_UNRESOLVED, // as verdictOf says
};

/** The lower, the higher is the rule's priority. */
export function rankOf(row: RuleRow): number {
  return ~row.priority >>> 0;
}

export function verdictWord(row: RuleRow): number {
  const flags = row.dropUnresolved ? abi.RuleFlag.RULE_DROP_UNRESOLVED : 0;
  const { RULES_ACTION_SHIFT, RULES_FLAGS_SHIFT } = abi.RulesVerdict;
  return (row.chain | (ACTIONS[row.action] << RULES_ACTION_SHIFT) | (flags << RULES_FLAGS_SHIFT)) >>> 0;
}
