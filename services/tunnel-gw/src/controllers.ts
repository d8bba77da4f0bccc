// SPDX-License-Identifier: Apache-2.0
// Asking the controllers about one flow: Classify, then SelectPath where the rule names a chain. One trace per sampled flow.

import type { ClassifyAnswer, ClassifyQuestion, SelectAnswer, SelectQuestion } from '@detour/contracts';
import { FlowInstruction, PathSource, RuleAction } from '@detour/contracts';
import { Fault, formatAddress } from '@detour/core';
import { SAMPLED_ATTRIBUTE } from '@detour/telemetry';
import { context, type Span, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import {
  type Classification,
  decisionWithoutPath,
  type FlowDecision,
  type FlowQuestion,
  forwardTuple,
  initiatorIsB,
} from './decision.js';
import type { OwnDecisions } from './own-decisions.js';

/** One kind of question; what rpc's QuestionStream is. */
export interface Asker<Question, Answer> {
  ask(question: Omit<Question, 'id'>): Promise<Answer>;
}

export interface ControllerOptions {
  readonly gateway: string;
  readonly classify: Asker<ClassifyQuestion, ClassifyAnswer>;
  readonly select: Asker<SelectQuestion, SelectAnswer>;
  readonly tracer: Tracer;
  /** What only this gateway knows: what it can use now, what its history prefers, and its choice for an answer that cannot be used. */
  readonly own: Pick<OwnDecisions, 'isUsable' | 'dropsUnresolved' | 'prefer' | 'choose'>;
}

/** Rejects with a Fault when either controller does not answer; the caller then decides alone. */
export function askControllers(options: ControllerOptions, question: FlowQuestion): Promise<FlowDecision> {
  const span = options.tracer.startSpan(
    'flow.setup',
    question.sampled === true ? { attributes: { [SAMPLED_ATTRIBUTE]: true } } : {},
  );
  return span.isRecording() ? decideInSpan(options, question, span) : decide(options, question, null);
}

async function decideInSpan(
  options: ControllerOptions,
  question: FlowQuestion,
  span: Span,
): Promise<FlowDecision> {
  span.setAttributes(flowAttributes(options.gateway, question));
  try {
    const decision = await decide(options, question, span);
    span.setAttributes({
      'detour.action': decision.action,
      'detour.path': decision.path,
      'detour.why': decision.why,
    });
    return decision;
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) });
    throw error;
  } finally {
    span.end();
  }
}

/** `span`: null when this flow's trace is not sampled. */
async function decide(
  options: ControllerOptions,
  question: FlowQuestion,
  span: Span | null,
): Promise<FlowDecision> {
  const { gateway } = options;
  const answer = await inSpan(options, span, 'classify', (traceparent) =>
    options.classify.ask({
      traceparent,
      gateway,
      tuple: wireTuple(question.tuple),
      port: question.port,
      syn: question.syn,
    }),
  );
  if (answer.error !== '') throw new Fault('unavailable', `classifier: ${answer.error}`);
  const found: Classification = {
    action: answer.action,
    rule: answer.rule,
    chain: answer.chain,
    reversed: answer.reversed,
    dropUnresolved: answer.action === RuleAction.UNRESOLVED && options.own.dropsUnresolved(answer.rule),
    why: answer.why,
  };
  const plain = decisionWithoutPath(question, found, 'controller');
  if (plain !== null) return plain;
  const chosen = await inSpan(options, span, 'select-path', (traceparent) =>
    options.select.ask({
      traceparent,
      gateway,
      tuple: wireTuple(forwardTuple(question, found.reversed)),
      chain: found.chain,
      rule: found.rule,
      midflow: !question.syn,
      preferred: options.own.prefer(found.chain, question, found.reversed),
    }),
  );
  if (chosen.error !== '') throw new Fault('unavailable', `path-selector: ${chosen.error}`);
  // A pin is kept although its path is down: the chain's onNodeDown decides that, not this gateway. Otherwise health is this gateway's own
  // word: also where the path-selector knows of no path, or not yet of a change.
  const usable = chosen.source === PathSource.PINNED || options.own.isUsable(found.chain, chosen.path);
  const programmed = PROGRAMMED[chosen.said];
  return {
    action: 'steer',
    rule: found.rule,
    chain: found.chain,
    path: usable ? chosen.path : options.own.choose(found.chain, question, found.reversed),
    initiatorIsB: initiatorIsB(question, found.reversed),
    ...(programmed === undefined ? {} : { programmed }),
    pinGen: chosen.pinGen,
    recorded: usable && chosen.source !== PathSource.UNRECORDED,
    by: 'controller',
    why: `${found.why}; ${chosen.why}`,
  };
}

/** What a node has said of the flow at another gateway. */
const PROGRAMMED: Readonly<Partial<Record<FlowInstruction, 'allow' | 'drop'>>> = {
  [FlowInstruction.SKIP_ALL]: 'allow',
  [FlowInstruction.DROP]: 'drop',
};

function inSpan<T>(
  options: ControllerOptions,
  parent: Span | null,
  name: string,
  work: (traceparent: string) => Promise<T>,
): Promise<T> {
  if (parent === null) return work('');
  const span = options.tracer.startSpan(name, {}, trace.setSpan(context.active(), parent));
  return work(traceparentOf(span)).finally(() => span.end());
}

/** W3C trace context, version 00. */
function traceparentOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}

function wireTuple(tuple: FlowQuestion['tuple']): ClassifyQuestion['tuple'] {
  return {
    vrf: tuple.vrf,
    src: tuple.src,
    dst: tuple.dst,
    sport: tuple.sport,
    dport: tuple.dport,
    proto: tuple.proto,
  };
}

function flowAttributes(gateway: string, { tuple, port }: FlowQuestion): Record<string, string | number> {
  return {
    'detour.gateway': gateway,
    'detour.port': port,
    'network.transport': tuple.proto,
    'source.address': formatAddress(tuple.src),
    'source.port': tuple.sport,
    'destination.address': formatAddress(tuple.dst),
    'destination.port': tuple.dport,
  };
}
