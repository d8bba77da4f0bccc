// SPDX-License-Identifier: Apache-2.0
/** One per-flow question answered from one gateway's compiled rules. Pure. */
import { ClassifyAnswer, type ClassifyQuestion, RuleAction, type TableVersion } from '@detour/contracts';
import { formatAddress, type Tuple } from '@detour/core';
import { lookupEitherWay, type RuleLookup, type RuleVerdict } from '@detour/tables';

/** What a question is answered from. */
export interface LiveRules {
  readonly version: TableVersion;
  readonly rules: RuleLookup;
}

const ACTIONS: Readonly<Record<RuleVerdict, RuleAction>> = {
  chain: RuleAction.CHAIN,
  allow: RuleAction.ALLOW,
  drop: RuleAction.DROP,
  unresolved: RuleAction.UNRESOLVED,
};

/** The answer: which rule and why; or why none. `live` null: no revision is known. */
export function answerQuestion(question: ClassifyQuestion, live: LiveRules | null): ClassifyAnswer {
  const refuse = (error: string) => ClassifyAnswer.fromPartial({ id: question.id, error });
  if (live === null) return refuse('the classifier has no revision of the intent yet');
  const tuple = readTuple(question);
  if (typeof tuple === 'string') return refuse(tuple);
  const found = lookupEitherWay(live.rules, tuple, question.port, { syn: question.syn });
  if (found === null)
    return ClassifyAnswer.fromPartial({
      id: question.id,
      version: live.version,
      action: RuleAction.ALLOW,
      why: `no rule of VRF ${tuple.vrf} matches ${showTuple(tuple)} entering by port ${question.port}`,
    });
  const { match, reversed } = found;
  return ClassifyAnswer.fromPartial({
    id: question.id,
    version: live.version,
    rule: match.rule,
    action: ACTIONS[match.action],
    chain: match.chain,
    reversed,
    why: reversed ? `reply: ${match.why}` : match.why,
  });
}

/** The tuple, or the sentence that refuses it. */
function readTuple(question: ClassifyQuestion): Tuple | string {
  const { tuple } = question;
  if (tuple === undefined) return `question ${question.id} has no tuple`;
  if (tuple.src.length !== 16 || tuple.dst.length !== 16)
    return `question ${question.id} has addresses of ${tuple.src.length} and ${tuple.dst.length} bytes; 16 are needed`;
  if (tuple.sport > 0xffff || tuple.dport > 0xffff || tuple.proto > 0xff)
    return `question ${question.id} has ports ${tuple.sport}, ${tuple.dport} and protocol ${tuple.proto}, beyond what a packet can hold`;
  return tuple;
}

function showTuple(tuple: Tuple): string {
  return `${formatAddress(tuple.src)}:${tuple.sport} > ${formatAddress(tuple.dst)}:${tuple.dport} protocol ${tuple.proto}`;
}
