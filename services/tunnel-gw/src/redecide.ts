// SPDX-License-Identifier: Apache-2.0
// What the rules in force say of a flow that was decided by older ones.
import { abi } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import {
  type DecisionAction,
  decideLocally,
  type FlowDecision,
  type FlowQuestion,
  forwardTuple,
  type LiveTables,
} from './decision.js';
import { isProgrammed, unpackFlowWord } from './flow-word.js';

export interface Redecided {
  readonly decision: FlowDecision;
  /** Its action or chain is another one, so its pin in Redis must not bring it back: the new pin has the next generation. */
  readonly moved: boolean;
}

/**
 * Null when the rules say what the record says. `question` is of the packet that met the change, in either direction; `opened`: a SYN of
 * the flow was seen here, so that its forward side is beyond doubt (of a SYN-ACK alone, so is its reply side); `pinGen`: generation of its pin as last known.
 */
export function redecide(
  tables: LiveTables,
  question: FlowQuestion,
  { flow, opened, pinGen }: { readonly flow: abi.Flow; readonly opened: boolean; readonly pinGen: number },
): Redecided | null {
  const word = unpackFlowWord(flow.word);
  const asked = asFirstAsked(question, word.initiatorIsB, flow.fwdPort);
  const isForward = (asked.norm === 1) === word.initiatorIsB;
  const next = decideLocally(tables, { ...asked, syn: opened && isForward });
  const moved = next.action !== actionOf(word) || (next.action === 'steer' && flow.chain !== next.chain);
  if (!moved && (flow.rule === next.rule || isProgrammed(word))) return null;
  if (moved) return { moved, decision: { ...next, pinGen: pinGen + 1 } };
  const { initiatorIsB, path } = word;
  return { moved, decision: { ...next, initiatorIsB, path, pinGen } };
}

/** The question about the flow's forward side; about the reply, as at first, where the forward side's port is not known yet. */
function asFirstAsked(question: FlowQuestion, initiatorIsB: boolean, fwdPort: number): FlowQuestion {
  if ((question.norm === 1) === initiatorIsB || fwdPort === 0) return question;
  const tuple = forwardTuple(question, true);
  return { ...question, tuple, norm: normaliseTuple(tuple).norm, port: fwdPort };
}

function actionOf(word: { readonly action: number; readonly flags: number }): DecisionAction {
  if (isProgrammed(word)) return 'steer'; // what the rules said; a node said the rest
  switch (word.action) {
    case abi.FlowAction.FLOW_ALLOW:
      return 'allow';
    case abi.FlowAction.FLOW_DROP:
      return (word.flags & abi.FlowWordFlag.WORD_FLAG_UNRESOLVED) !== 0 ? 'unresolved-drop' : 'drop';
    default:
      return 'steer';
  }
}
