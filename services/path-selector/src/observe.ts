// SPDX-License-Identifier: Apache-2.0
/** What the path-selector tells about itself: counters, gauges, and a span for each sampled question. */
import type { Affinity } from '@detour/affinity';
import { PathSource, SelectAnswer, type SelectQuestion } from '@detour/contracts';
import { tally, withSpan } from '@detour/telemetry';
import { type Meter, SpanKind } from '@opentelemetry/api';
import type { LivePaths } from './live-paths.js';
import { describeFlow } from './select-path.js';

type AnswerMany = (
  questions: readonly SelectQuestion[],
) => Promise<readonly (SelectAnswer | Promise<SelectAnswer>)[]>;

export interface Observed {
  readonly question: (question: SelectQuestion, answer: () => Promise<SelectAnswer>) => Promise<SelectAnswer>;
  /** Several at once: those whose trace is sampled each within its span, the others together. */
  readonly questions: (questions: readonly SelectQuestion[], answer: AnswerMany) => ReturnType<AnswerMany>;
  readonly table: (outcome: 'live' | 'refused', tookMs: number) => void;
  readonly tableAnswer: (outcome: 'ack' | 'nack', gateway: string) => void;
}

const SOURCES: Readonly<Record<PathSource, string>> = {
  [PathSource.UNSPECIFIED]: 'error',
  [PathSource.SELECTED]: 'selected',
  [PathSource.PINNED]: 'pinned',
  [PathSource.REPINNED]: 'repinned',
  [PathSource.UNRECORDED]: 'unrecorded',
};

function outcomeOf({ error, path, source }: SelectAnswer): string {
  if (error !== '') return 'error';
  return path === 0 ? 'no-path' : SOURCES[source];
}

async function answerOne(question: SelectQuestion, answer: AnswerMany): Promise<SelectAnswer> {
  const [given] = await answer([question]);
  return given ?? unanswered(question);
}

function unanswered({ id }: SelectQuestion): SelectAnswer {
  return SelectAnswer.fromPartial({ id, error: 'no answer was made' });
}

export function observeSelector(
  meter: Meter,
  paths: LivePaths,
  affinity: Pick<Affinity, 'counters' | 'connected' | 'refuses'>,
): Observed {
  const count = tally(meter, 'detour_paths_questions', {
    description: 'Questions answered, by outcome: selected, pinned, repinned, unrecorded, no-path, error.',
    label: 'outcome',
  });
  const counted = (given: SelectAnswer): SelectAnswer => {
    count(outcomeOf(given));
    return given;
  };
  const tables = meter.createCounter('detour_paths_tables', {
    description: 'Path tables made, by outcome: live, refused.',
  });
  const building = meter.createHistogram('detour_paths_table_ms', {
    description: 'Time to make and publish a path table, in ms.',
  });
  const acks = meter.createCounter('detour_paths_table_answers', {
    description: 'Answers of gateways to path tables, by outcome: ack, nack.',
  });
  meter
    .createObservableGauge('detour_paths_revision', { description: 'The revision in force; 0: none.' })
    .addCallback((result) => result.observe(paths.version?.revision ?? 0));
  meter
    .createObservableGauge('detour_paths_weight', { description: 'The weight of a path before health.' })
    .addCallback((result) => {
      for (const row of paths.rows)
        for (const { number, weight } of row.paths) result.observe(weight, { chain: row.name, path: number });
    });
  meter
    .createObservableGauge('detour_paths_redis_connected', { description: '1: Redis answers.' })
    .addCallback((result) => result.observe(affinity.connected ? 1 : 0));
  meter
    .createObservableGauge('detour_paths_redis_refuses', {
      description: '1: Redis answers and takes no pins.',
    })
    .addCallback((result) => result.observe(affinity.refuses === null ? 0 : 1));
  meter
    .createObservableCounter('detour_paths_redis', {
      description: 'Redis operations, by kind: ops, errors, timeouts, conflicts, unrecorded, corrupt.',
    })
    .addCallback((result) => {
      for (const [kind, count] of Object.entries(affinity.counters)) result.observe(count, { kind });
    });
  const inSpan: Observed['question'] = async (question, answer) => {
    if (question.traceparent === '') return counted(await answer());
    const options = { parent: question.traceparent, kind: SpanKind.SERVER };
    return withSpan('path-selector.select-path', options, async (span) => {
      const given = counted(await answer());
      span.setAttributes({
        'detour.gateway': question.gateway,
        'detour.flow': describeFlow(question),
        'detour.chain': question.chain,
        'detour.outcome': outcomeOf(given),
        'detour.path': given.path,
        'detour.why': given.error === '' ? given.why : given.error,
      });
      return given;
    });
  };
  return {
    question: inSpan,
    questions: async (all, answer) => {
      const sampled = all.filter(({ traceparent }) => traceparent !== '');
      const alone = new Map(
        sampled.map((question) => [question, inSpan(question, () => answerOne(question, answer))]),
      );
      const given = await answer(alone.size === 0 ? all : all.filter((question) => !alone.has(question)));
      let at = 0;
      return all.map((question) => {
        const traced = alone.get(question);
        if (traced !== undefined) return traced;
        const one = given[at++] ?? unanswered(question);
        return one instanceof Promise ? one.then(counted) : counted(one);
      });
    },
    table: (outcome, tookMs) => {
      tables.add(1, { outcome });
      if (outcome === 'live') building.record(tookMs);
    },
    tableAnswer: (outcome, gateway) => acks.add(1, { outcome, gateway }),
  };
}
