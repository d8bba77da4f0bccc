// SPDX-License-Identifier: Apache-2.0
/** All nodes of the revision in force: scrapes them, takes reports, and says what each is worth. */
import type { AlarmCode, ScoreValue } from '@detour/contracts';
import { type Clock, Fault, type Log } from '@detour/core';
import {
  CONNECTION_ATTRIBUTES,
  type Intent,
  parseFormula,
  parseMetricExpression,
  type Scoring,
  type ServiceNode,
  scoringOf,
} from '@detour/intent';
import { isMeasured, type Measured, refuseTimestamp, type Source, siftAttributes } from './attributes.js';
import type { MetricExpressions } from './metric-values.js';
import { NodeWatch } from './node-watch.js';
import type { Evaluation } from './score.js';
import type { WantedScore } from './score-publisher.js';
import { type ScrapeResult, Scraper } from './scraper.js';

/** Believed values on their way between replicas. `ageMs`: how old they are now. */
export interface Observation {
  readonly node: string;
  readonly source: Source;
  /** Of source `gateway`: its name. */
  readonly reporter: string;
  readonly ageMs: number;
  readonly values: ReadonlyMap<Measured, number>;
}

export interface CollectorSpec {
  readonly clock: Clock;
  readonly log: Log;
  readonly publish: (node: string, wanted: WantedScore) => void;
  /** The score in force, as last seen. */
  readonly published: (node: string) => ScoreValue | null;
  readonly raise: (code: AlarmCode, node: string, text: string) => void;
  readonly clear: (code: AlarmCode, node: string) => void;
  /** Tells other replicas what was seen here. */
  readonly share: (seen: Observation) => void;
  readonly onScrape: (node: string, result: ScrapeResult) => void;
}

/** One node as people ask about it. */
export interface Explanation {
  readonly node: string;
  readonly formula: string;
  readonly evaluation: Evaluation;
  readonly lastFailure: string | null;
}

interface Watched {
  readonly node: ServiceNode;
  readonly scoring: Scoring;
  readonly watch: NodeWatch;
  readonly scraper: Scraper | null;
  lastFailure: string | null;
  /** What was refused last, by who said it. */
  readonly refusals: Refusals;
}

type Refusals = Map<string, { readonly texts: readonly string[]; readonly atMs: number }>;

/** Most reporters of one node whose refusals are held. */
const MAX_REFUSED = 16;
/** How long a refusal is held against a reporter that says nothing more. */
const REFUSAL_MS = 600_000;
const STALE_CODES = ['node_stale', 'score_invalid'] as const;

export class Collector implements Disposable {
  readonly #watched = new Map<string, Watched>();
  #gateways: ReadonlySet<string> = new Set();

  constructor(private readonly spec: CollectorSpec) {}

  /** Puts an intent into force: nodes that did not change are not disturbed. */
  apply(intent: Intent): void {
    const names = new Set(intent.nodes.map(({ name }) => name));
    this.#gateways = new Set(intent.gateways.map(({ name }) => name));
    for (const [name, held] of this.#watched) {
      if (names.has(name)) continue;
      this.#drop(held);
      this.#watched.delete(name);
      for (const code of [...STALE_CODES, 'attribute_refused'] as const) this.spec.clear(code, name);
    }
    for (const node of intent.nodes) {
      const scoring = scoringOf(intent, node);
      if (scoring === undefined)
        throw new Fault('internal', `the intent has no scoring policy for ${node.name}`);
      const held = this.#watched.get(node.name);
      held?.watch.keepGateways(this.#gateways);
      if (held !== undefined && same(held.node, node) && same(held.scoring, scoring)) continue;
      this.#watch(node, scoring, held);
    }
  }

  /**
   * A report over the wire; `gateway`: which gateway measured this, '' for the node's own word. Answers what was refused, by name.
   * @throws Fault `not_found` for a node or gateway that is not declared.
   */
  takeReport(report: {
    node: string;
    reporter: string;
    gateway: string;
    atMs: number;
    attributes: Iterable<[string, number]>;
  }): string[] {
    const { clock } = this.spec;
    const { node, gateway } = report;
    if (!this.#watched.has(node))
      throw new Fault(
        'not_found',
        `node "${node.slice(0, 64)}" is not in the intent: report on one of ${listed(this.#watched.keys())}`,
      );
    if (gateway !== '' && !this.#gateways.has(gateway))
      throw new Fault(
        'not_found',
        `gateway "${gateway.slice(0, 64)}" is not in the intent: report as one of ${listed(this.#gateways)}`,
      );
    const source = gateway === '' ? 'report' : 'gateway';
    const reporter = (gateway === '' ? report.reporter : gateway).slice(0, 64);
    const nowMs = clock.nowMs();
    const late = report.atMs === 0 ? null : refuseTimestamp(report.atMs, nowMs);
    const known = source === 'gateway' ? CONNECTION_ATTRIBUTES : undefined;
    const { values, refused } =
      late === null ? siftAttributes(report.attributes, known) : { values: new Map(), refused: [late] };
    this.#tellRefused(node, reporter, refused);
    if (values.size === 0) return [...refused];
    const ageMs = report.atMs === 0 ? 0 : Math.max(0, nowMs - report.atMs);
    const seen: Observation = { node, source, reporter, ageMs, values };
    this.take(seen);
    this.spec.share(seen);
    return [...refused];
  }

  /** Takes what was seen, here or by another replica. */
  take(seen: Observation): void {
    if (seen.source === 'gateway' && !this.#gateways.has(seen.reporter)) return;
    this.#watched.get(seen.node)?.watch.take(seen.values, seen);
  }

  /** Another replica published a node's score. */
  adopt(node: string, value: ScoreValue): void {
    this.#watched.get(node)?.watch.adopt(value);
  }

  /** What each node is worth and why, by name. */
  explain(): Explanation[] {
    return [...this.#watched.values()]
      .map(({ node, scoring, watch, lastFailure }) => ({
        node: node.name,
        formula: scoring.formula,
        evaluation: watch.evaluation,
        lastFailure,
      }))
      .sort((x, y) => (x.node < y.node ? -1 : 1));
  }

  [Symbol.dispose](): void {
    for (const held of this.#watched.values()) this.#drop(held);
    this.#watched.clear();
  }

  #watch(node: ServiceNode, scoring: Scoring, before: Watched | undefined): void {
    const { clock } = this.spec;
    const { prometheus } = node.attributes;
    const parsed = parseFormula(scoring.formula);
    if (!parsed.ok) {
      this.spec.log.error({ node: node.name, formula: scoring.formula }, `the formula ${parsed.message}`);
      return;
    }
    const keepScraper = before !== undefined && same(before.node.attributes, node.attributes);
    if (before !== undefined) this.#drop(before, { keepScraper });
    const watch = new NodeWatch(
      {
        node,
        formula: parsed.formula,
        otherZoneFactor: scoring.otherZoneFactor,
        smoothingMs: scoring.smoothing,
        clock,
        published: () => this.spec.published(node.name),
        onEvaluation: (evaluation) => this.#evaluated(node.name, scoring, evaluation),
      },
      before?.watch,
    );
    const lastFailure = keepScraper ? before.lastFailure : null;
    const scraper = keepScraper
      ? before.scraper
      : prometheus === undefined
        ? null
        : new Scraper({
            url: prometheus.url,
            everyMs: prometheus.every,
            metrics: expressionsOf(prometheus.metrics),
            clock,
            onResult: (result) => this.#scraped(node.name, prometheus.url, result),
          });
    const refusals: Refusals = before?.refusals ?? new Map();
    this.#watched.set(node.name, { node, scoring, watch, scraper, lastFailure, refusals });
  }

  #drop(held: Watched, { keepScraper = false } = {}): void {
    held.watch[Symbol.dispose]();
    if (!keepScraper) held.scraper?.[Symbol.dispose]();
  }

  #scraped(node: string, url: string, result: ScrapeResult): void {
    const held = this.#watched.get(node);
    if (held === undefined) return;
    this.spec.onScrape(node, result);
    const failure = result.failure?.detail ?? null;
    if (failure !== null && held.lastFailure === null)
      this.spec.log.warn({ node }, `scrape failed: ${failure}`);
    if (failure === null && held.lastFailure !== null) this.spec.log.info({ node }, `${url} answers again`);
    held.lastFailure = failure;
    if (failure !== null) return;
    this.#tellRefused(node, url, result.refused);
    if (result.values.size === 0) return;
    const seen: Observation = { node, source: 'prometheus', reporter: url, ageMs: 0, values: result.values };
    this.take(seen);
    this.spec.share(seen);
  }

  /** The alarm stays until each reporter that was refused has said something that was believed whole, or has long said nothing. */
  #tellRefused(node: string, reporter: string, texts: readonly string[]): void {
    const refusals = this.#watched.get(node)?.refusals;
    if (refusals === undefined) return;
    const nowMs = this.spec.clock.monoMs();
    refusals.delete(reporter);
    if (texts.length > 0) refusals.set(reporter, { texts, atMs: nowMs });
    for (const [oldest, { atMs }] of refusals)
      if (refusals.size > MAX_REFUSED || nowMs - atMs > REFUSAL_MS) refusals.delete(oldest);
    const all = [...refusals.values()].flatMap((refusal) => refusal.texts).join('; ');
    if (all === '') this.spec.clear('attribute_refused', node);
    else this.spec.raise('attribute_refused', node, `${node}: ${all.slice(0, 1_000)}`);
  }

  #evaluated(node: string, scoring: Scoring, evaluation: Evaluation): void {
    if (evaluation.kind === 'pending') return;
    const { score, otherZone, fresh, fault, why, smoothed, counted } = evaluation;
    for (const code of STALE_CODES) if (fault?.code !== code) this.spec.clear(code, node);
    const failure = this.#watched.get(node)?.lastFailure ?? null;
    const text = failure === null ? (fault?.text ?? '') : `${fault?.text ?? ''}; the last scrape: ${failure}`;
    if (fault !== null) this.spec.raise(fault.code, node, `${node} gets no new flows: ${text}`);
    const { hysteresis, slowStart: slowStartMs } = scoring;
    const wanted = { score, otherZone, fresh, why, hysteresis, slowStartMs, smoothed, counted };
    this.spec.publish(node, { ...wanted, peers: this.#peersOf(node) });
  }

  /** The other nodes of its service. */
  #peersOf(node: string): string[] {
    const service = this.#watched.get(node)?.node.service;
    return [...this.#watched.values()].flatMap(({ node: { name, service: of } }) =>
      of === service && name !== node ? [name] : [],
    );
  }
}

function listed(all: Iterable<string>): string {
  const names = [...all].sort();
  return names.length > 10 ? `${names.slice(0, 10).join(', ')} …` : names.join(', ');
}

/** Of a document that was checked; null where it names none. */
function expressionsOf(
  metrics: Readonly<Partial<Record<Measured, string>>> | undefined,
): MetricExpressions | null {
  if (metrics === undefined) return null;
  return new Map(
    Object.entries(metrics).flatMap(([name, text]) => {
      const parsed = parseMetricExpression(text);
      return isMeasured(name) && parsed.ok ? [[name, parsed.expression] as const] : [];
    }),
  );
}

function same(x: unknown, y: unknown): boolean {
  return JSON.stringify(x) === JSON.stringify(y);
}
