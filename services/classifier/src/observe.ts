// SPDX-License-Identifier: Apache-2.0
/** What the classifier tells about itself: counters, gauges, and a span for each sampled question. */
import { type ClassifyAnswer, type ClassifyQuestion, RuleAction } from '@detour/contracts';
import { tally, withSpan } from '@detour/telemetry';
import { type Meter, SpanKind } from '@opentelemetry/api';
import type { LiveTables } from './live-tables.js';

export interface Observed {
  readonly question: (question: ClassifyQuestion, answer: () => ClassifyAnswer) => ClassifyAnswer;
  readonly revision: (outcome: 'live' | 'refused', tookMs: number) => void;
  readonly table: (outcome: 'ack' | 'nack', gateway: string) => void;
}

const OUTCOMES: Readonly<Record<RuleAction, string>> = {
  [RuleAction.UNSPECIFIED]: 'error',
  [RuleAction.ALLOW]: 'allow',
  [RuleAction.DROP]: 'drop',
  [RuleAction.CHAIN]: 'chain',
  [RuleAction.UNRESOLVED]: 'unresolved',
};

export function observeClassifier(meter: Meter, tables: LiveTables): Observed {
  const questions = tally(meter, 'detour_classifier_questions', {
    description: 'Questions answered, by outcome: chain, allow, drop, unresolved, no-rule, error.',
    label: 'outcome',
  });
  const revisions = meter.createCounter('detour_classifier_revisions', {
    description: 'Intent revisions that came, by outcome: live, refused.',
  });
  const compile = meter.createHistogram('detour_classifier_apply_ms', {
    description: 'Time from a loaded revision to its tables published, in ms.',
  });
  const acks = meter.createCounter('detour_classifier_table_answers', {
    description: 'Answers of gateways to rule tables, by outcome: ack, nack.',
  });
  meter
    .createObservableGauge('detour_classifier_revision', { description: 'The revision in force; 0: none.' })
    .addCallback((result) => result.observe(tables.version?.revision ?? 0));

  const count = (answer: ClassifyAnswer): string => {
    const outcome = answer.error !== '' ? 'error' : answer.rule === 0 ? 'no-rule' : OUTCOMES[answer.action];
    questions(outcome);
    return outcome;
  };
  return {
    question: (question, answer) => {
      if (question.traceparent === '') {
        const given = answer();
        count(given);
        return given;
      }
      const options = { parent: question.traceparent, kind: SpanKind.SERVER };
      return withSpan('classifier.classify', options, (span) => {
        const given = answer();
        span.setAttributes({
          'detour.gateway': question.gateway,
          'detour.outcome': count(given),
          'detour.rule': given.rule,
          'detour.chain': given.chain,
          'detour.why': given.error === '' ? given.why : given.error,
        });
        return given;
      });
    },
    revision: (outcome, tookMs) => {
      revisions.add(1, { outcome });
      if (outcome === 'live') compile.record(tookMs);
    },
    table: (outcome, gateway) => acks.add(1, { outcome, gateway }),
  };
}
