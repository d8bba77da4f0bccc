// SPDX-License-Identifier: Apache-2.0
// Scores as the stats-collector publishes them: the operator's formula over what nodes say, then the real nextScore (slow start, hysteresis),
// each node once a minute and whenever a step of its slow start is due, by a clock that is turned by hand.
import type { ScoreValue } from '@detour/contracts';
import { type Clock, Fault } from '@detour/core';
import { DEFAULT_FORMULA, evaluateFormula, type FormulaAttribute, parseFormula } from '@detour/intent';
import { capShares, type NodeWorth, nextScore, roundScore } from '@detour/tables';
import type { World } from './world.js';

const SCRAPE_MS = 60_000;
const STEPS = { slowStartMs: 3_600_000, hysteresis: 0.1 } as const;

export interface ScoreBoardOptions {
  readonly world: World;
  readonly clock: Clock;
  /** What the node's exporter says; null: it does not answer, and its score is stale. */
  readonly read: (node: number) => Readonly<Record<FormulaAttribute, number>> | null;
}

export class ScoreBoard {
  /** How many scores were published. */
  published = 0;
  private readonly scores = new Map<number, ScoreValue>();
  private readonly steps = new Map<number, () => void>();
  private readonly formula;

  constructor(private readonly options: ScoreBoardOptions) {
    const parsed = parseFormula(DEFAULT_FORMULA);
    if (!parsed.ok) throw new Fault('internal', `the default formula ${parsed.message}`);
    this.formula = parsed.formula;
    this.scrape();
  }

  scoreOf(node: number): number {
    return this.scores.get(node)?.score ?? 0;
  }

  /** What the path-selector makes of the scores: each service's nodes held to their shares. */
  worths(isDrained: (node: number) => boolean): ReadonlyMap<number, NodeWorth> {
    const worths = new Map<number, NodeWorth>();
    for (const service of this.options.world.services) {
      const nodes = service.flatMap((number) => this.options.world.nodes.get(number) ?? []);
      const capped = (worthOf: (node: number) => number) =>
        capShares(
          nodes.map(({ number, maxShare }) => ({
            ...{ name: String(number), maxShare },
            worth: isDrained(number) ? 0 : worthOf(number),
          })),
        );
      const scores = capped((node) => this.scoreOf(node));
      const capacities = capped((node) => this.options.world.nodes.get(node)?.capacity ?? 0);
      for (const number of service)
        worths.set(number, {
          score: scores.get(String(number)) ?? 0,
          capacity: capacities.get(String(number)) ?? 0,
          drained: isDrained(number),
        });
    }
    return worths;
  }

  private scrape(): void {
    for (const node of this.options.world.nodes.keys()) this.evaluate(node);
    this.options.clock.after(SCRAPE_MS, () => this.scrape());
  }

  private evaluate(node: number): void {
    this.steps.get(node)?.();
    this.steps.delete(node);
    const { clock, read } = this.options;
    const attributes = read(node);
    const score = attributes === null ? 0 : roundScore(evaluateFormula(this.formula, attributes));
    const wanted = { score, otherZone: null, fresh: attributes !== null, why: '', ...STEPS };
    const nowMs = clock.nowMs();
    const { value, reason, stepInMs } = nextScore(wanted, this.scores.get(node) ?? null, {
      peers: this.peersOf(node),
      nowMs,
    });
    if (stepInMs !== null)
      this.steps.set(
        node,
        clock.after(stepInMs, () => this.evaluate(node)),
      );
    if (reason === null) return;
    this.scores.set(node, { ...value, atMs: nowMs });
    this.published++;
  }

  private *peersOf(node: number): Iterable<ScoreValue | null> {
    const service = this.options.world.nodes.get(node)?.service ?? -1;
    for (const peer of this.options.world.services[service] ?? [])
      if (peer !== node) yield this.scores.get(peer) ?? null;
  }
}
