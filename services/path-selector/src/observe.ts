// SPDX-License-Identifier: Apache-2.0
/** What the path-selector tells about itself: counters, gauges, and a span for each sampled question. */
import type { Affinity } from '@detour/affinity';
import { PathSource, type SelectAnswer, type SelectQuestion } from '@detour/contracts';
import { withSpan } from '@detour/telemetry';
import { type Meter, SpanKind } from '@opentelemetry/api';
import type { LivePaths } from './live-paths.js';
import { describeFlow } from './select-path.js';

export interface Observed {
  readonly question: (question: SelectQuestion, answer: () => Promise<SelectAnswer>) => Promise<SelectAnswer>;
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

export function observeSelector(
  meter: Meter,
  paths: LivePaths,
  affinity: Pick<Affinity, 'counters' | 'connected'>,
): Observed {
  const questions = meter.createCounter('detour_paths_questions', {
    description: 'Questions answered, by outcome: selected, pinned, repinned, unrecorded, no-path, error.',
  });
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
    .createObservableCounter('detour_paths_redis', {
      description: 'Redis operations, by kind: ops, errors, timeouts, conflicts, unrecorded, corrupt.',
    })
    .addCallback((result) => {
      for (const [kind, count] of Object.entries(affinity.counters)) result.observe(count, { kind });
    });
  return {
    question: async (question, answer) => {
      if (question.traceparent === '') {
        const given = await answer();
        questions.add(1, { outcome: outcomeOf(given) });
        return given;
      }
      const options = { parent: question.traceparent, kind: SpanKind.SERVER };
      return withSpan('path-selector.select-path', options, async (span) => {
        const given = await answer();
        const outcome = outcomeOf(given);
        questions.add(1, { outcome });
        span.setAttributes({
          'detour.gateway': question.gateway,
          'detour.flow': describeFlow(question),
          'detour.chain': question.chain,
          'detour.outcome': outcome,
          'detour.path': given.path,
          'detour.why': given.error === '' ? given.why : given.error,
        });
        return given;
      });
    },
    table: (outcome, tookMs) => {
      tables.add(1, { outcome });
      if (outcome === 'live') building.record(tookMs);
    },
    tableAnswer: (outcome, gateway) => acks.add(1, { outcome, gateway }),
  };
}
