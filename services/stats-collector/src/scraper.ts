// SPDX-License-Identifier: Apache-2.0
/** Scrapes one node's exporter at its interval, beginning at once, and hands on what it says about the node. */
import { type Clock, describeError, Fault } from '@detour/core';
import type { Measured } from './attributes.js';
import { type MetricExpressions, metricsOf, readMetrics, type Sums } from './metric-values.js';
import { type CpuCounters, readAttributes, WANTED_METRICS } from './node-exporter.js';
import { parsePrometheusText } from './prometheus-text.js';
import { scrapeText } from './scrape.js';

/** What one scrape gave. `failure`: nothing could be read at all. */
export interface ScrapeResult {
  readonly values: ReadonlyMap<Measured, number>;
  readonly refused: readonly string[];
  readonly failure: Fault | null;
  readonly tookMs: number;
}

export interface ScraperSpec {
  readonly url: string;
  readonly everyMs: number;
  /** null: the exporter is prometheus-node-exporter. */
  readonly metrics: MetricExpressions | null;
  readonly clock: Clock;
  readonly onResult: (result: ScrapeResult) => void;
}

/** The second scrape comes early, because a processor's load and other rates need two. */
const SECOND_SCRAPE_MS = 500;
const MAX_DEADLINE_MS = 10_000;

/** Scrapes until it is disposed of; two scrapes of one node never overlap. */
export class Scraper implements Disposable {
  #cpu: CpuCounters | null = null;
  #sums: Sums | null = null;
  #cancel: () => void = () => {};
  readonly #life = new AbortController();

  constructor(private readonly spec: ScraperSpec) {
    void this.#run();
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#life.abort();
  }

  async #run(): Promise<void> {
    const { clock, everyMs } = this.spec;
    const startMs = clock.monoMs();
    const needsTwo = () => (this.#cpu ?? this.#sums) !== null;
    const first = !needsTwo();
    const result = await this.#scrape();
    if (this.#life.signal.aborted) return;
    this.spec.onResult(result);
    const waitMs = first && needsTwo() ? Math.min(everyMs, SECOND_SCRAPE_MS) : everyMs;
    this.#cancel = clock.after(Math.max(0, startMs + waitMs - clock.monoMs()), () => void this.#run());
  }

  async #scrape(): Promise<ScrapeResult> {
    const { url, everyMs, metrics, clock } = this.spec;
    const startMs = clock.monoMs();
    const result = (part: Partial<ScrapeResult>): ScrapeResult => ({
      values: new Map(),
      refused: [],
      failure: null,
      tookMs: clock.monoMs() - startMs,
      ...part,
    });
    try {
      const text = await scrapeText({
        url,
        deadlineMs: Math.min(everyMs, MAX_DEADLINE_MS),
        signal: this.#life.signal,
      });
      const parsed = parsePrometheusText(text, metrics === null ? WANTED_METRICS : metricsOf(metrics));
      if (!parsed.ok)
        return result({
          failure: new Fault(
            'invalid',
            `${url} gives no Prometheus text: ${parsed.why}, got ${JSON.stringify(parsed.got)}`,
          ),
        });
      if (metrics !== null) {
        const at = { before: this.#sums, nowMs: clock.nowMs(), monoMs: clock.monoMs() };
        const { values, refused, sums } = readMetrics(parsed.samples, metrics, at);
        this.#sums = sums;
        return result({ values, refused });
      }
      const { values, refused, cpu } = readAttributes(parsed.samples, this.#cpu, clock.nowMs());
      this.#cpu = cpu;
      return result({ values, refused });
    } catch (error) {
      const failure = error instanceof Fault ? error : new Fault('internal', describeError(error), error);
      return result({ failure });
    }
  }
}
