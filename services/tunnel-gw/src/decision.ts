// SPDX-License-Identifier: Apache-2.0
// What is decided about a flow, by whichever way: the controllers' answers, or the last tables when they do not answer in time.
import { RuleAction } from '@detour/contracts';
import {
  type FlowKey,
  type HashKey,
  normaliseTuple,
  reverseTuple,
  selectionHash,
  type Tuple,
} from '@detour/core';
import { lookupEitherWay, type RuleLookup } from '@detour/tables';
import type { Decider } from './flow-slots.js';
import type { ChainModel } from './model.js';

/** A flow that has no decision yet: its first packet's tuple as seen, and the port by which it entered. */
export interface FlowQuestion {
  readonly tuple: Tuple;
  readonly key: FlowKey; // scope as the datapath asked
  readonly norm: 0 | 1;
  readonly port: number;
  readonly syn: boolean; // TCP SYN without ACK: this flow begins here
  readonly sampled?: boolean; // the datapath could have decided it: asked about for its trace
  readonly again?: boolean; // its SYN was not answered here, perhaps at another gateway
}

export type DecisionAction = 'allow' | 'drop' | 'unresolved-drop' | 'steer';

export interface FlowDecision {
  readonly action: DecisionAction;
  readonly rule: number;
  readonly chain: number;
  readonly path: number; // 0: none is up; the datapath applies the chain's onFailure
  readonly initiatorIsB: boolean;
  readonly pinGen: number;
  readonly recorded: boolean; // Redis knows the pin
  /** Of a flow that has a path: a node said that it is not to be steered. */
  readonly programmed?: 'allow' | 'drop';
  readonly by: Decider;
  readonly why: string;
}

/** What a rule said, whoever was asked. */
export interface Classification {
  readonly action: RuleAction;
  readonly rule: number;
  readonly chain: number;
  readonly reversed: boolean;
  readonly dropUnresolved: boolean;
  readonly why: string;
}

/** The tables in force, as far as decisions need them. */
export interface LiveTables {
  readonly rules: RuleLookup;
  readonly chains: ReadonlyMap<number, ChainModel>;
  readonly hashKey: HashKey;
}

export function classifyLocally(tables: LiveTables, question: FlowQuestion): Classification {
  const found = lookupEitherWay(tables.rules, question.tuple, question.port, { syn: question.syn });
  if (found === null) {
    return {
      action: RuleAction.ALLOW,
      rule: 0,
      chain: 0,
      reversed: false,
      dropUnresolved: false,
      why: 'no rule matches',
    };
  }
  const { match, reversed } = found;
  const { row } = match;
  return {
    action: row.action,
    rule: match.rule,
    chain: match.chain,
    reversed,
    dropUnresolved: row.dropUnresolved,
    why: match.why,
  };
}

/** Which end point began the flow: the packet's source, unless the rule matched it as a reply. */
export function initiatorIsB(question: FlowQuestion, reversed: boolean): boolean {
  return (question.norm === 1) !== reversed;
}

/** The tuple in the rule's forward direction. */
export function forwardTuple(question: FlowQuestion, reversed: boolean): Tuple {
  return reversed ? reverseTuple(question.tuple) : question.tuple;
}

/** Slot of the chain's selection table, exactly as the datapath computes it; 0 when no path can be chosen. */
export function choosePathLocally(chain: ChainModel, tuple: Tuple, hashKey: HashKey): number {
  if (chain.slots.length === 0) return 0;
  const { key, norm } = normaliseTuple(tuple);
  return chain.slots[selectionHash(key, chain.affinity, norm === 1, hashKey) % chain.slots.length] ?? 0;
}

/** Null when the classification asks for a path; otherwise the whole decision. */
export function decisionWithoutPath(
  question: FlowQuestion,
  found: Classification,
  by: Decider,
): FlowDecision | null {
  const base = {
    rule: found.rule,
    chain: 0,
    path: 0,
    initiatorIsB: initiatorIsB(question, found.reversed),
    pinGen: 0,
    recorded: true, // nothing to record
    by,
    why: found.why,
  };
  switch (found.action) {
    case RuleAction.ALLOW:
      return { ...base, action: 'allow' };
    case RuleAction.DROP:
      return { ...base, action: 'drop' };
    case RuleAction.UNRESOLVED:
    case RuleAction.UNSPECIFIED:
      return { ...base, action: found.dropUnresolved ? 'unresolved-drop' : 'allow' };
    case RuleAction.CHAIN:
      return null;
  }
}

/**
 * Generation of the pin of a connection that began here and was decided alone: above that of any first choice. Its packets go this way
 * already, so that a controller's answer that came too late, and was recorded with other weights, must not move it.
 */
export const OWN_PIN_GEN = 2;

/** A whole decision from the tables in force, with nobody asked. */
export function decideLocally(
  tables: LiveTables,
  question: FlowQuestion,
  known?: Classification,
): FlowDecision {
  const found = known ?? classifyLocally(tables, question);
  const plain = decisionWithoutPath(question, found, 'last-tables');
  if (plain !== null) return plain;
  const chain = tables.chains.get(found.chain);
  const path =
    chain === undefined
      ? 0
      : choosePathLocally(chain, forwardTuple(question, found.reversed), tables.hashKey);
  return {
    action: 'steer',
    rule: found.rule,
    chain: found.chain,
    path,
    initiatorIsB: initiatorIsB(question, found.reversed),
    pinGen: question.syn ? OWN_PIN_GEN : 0,
    recorded: false,
    by: 'last-tables',
    why: found.why,
  };
}
