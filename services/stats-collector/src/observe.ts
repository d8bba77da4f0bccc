// SPDX-License-Identifier: Apache-2.0
/** What the stats-collector tells about itself: counters and gauges. */
import type { ScoreValue } from '@detour/contracts';
import type { Meter } from '@opentelemetry/api';
import type { Collector } from './collector.js';
import type { ScrapeResult } from './scraper.js';

export interface Observed {
  readonly scrape: (node: string, result: ScrapeResult) => void;
  readonly write: (outcome: 'published' | 'conflict' | 'failed') => void;
  readonly report: (refused: number) => void;
}

export function observeStats(
  meter: Meter,
  collector: () => Collector,
  published: (node: string) => ScoreValue | null,
): Observed {
  const scrapes = meter.createCounter('detour_stats_scrapes', {
    description: 'Scrapes by node and outcome: ok, timeout, unavailable, exhausted, invalid.',
  });
  const durations = meter.createHistogram('detour_stats_scrape_ms', {
    description: 'Time of a scrape in ms.',
  });
  const refusals = meter.createCounter('detour_stats_refused_values', {
    description: 'Values outside their bounds, by where they came from: scrape, report.',
  });
  const reports = meter.createCounter('detour_stats_reports', {
    description: 'Reports of attributes that came.',
  });
  const writes = meter.createCounter('detour_stats_score_writes', {
    description: 'Writes of scores, by outcome: published, conflict, failed.',
  });
  meter
    .createObservableGauge('detour_stats_score', { description: 'The published score of a node.' })
    .addCallback((result) => {
      for (const { node } of collector().explain()) {
        const value = published(node);
        if (value !== null) result.observe(value.score, { node, fresh: value.fresh });
      }
    });
  return {
    scrape: (node, { failure, refused, tookMs }) => {
      scrapes.add(1, { node, outcome: failure?.code ?? 'ok' });
      durations.record(tookMs);
      if (refused.length > 0) refusals.add(refused.length, { from: 'scrape' });
    },
    write: (outcome) => writes.add(1, { outcome }),
    report: (refused) => {
      reports.add(1);
      if (refused > 0) refusals.add(refused, { from: 'report' });
    },
  };
}
