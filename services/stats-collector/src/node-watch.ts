// SPDX-License-Identifier: Apache-2.0
/** One node under watch: its readings, and a new evaluation whenever one arrives or becomes too old. */
import type { ScoreValue } from '@detour/contracts';
import type { Clock } from '@detour/core';
import { FORMULA_ATTRIBUTES, type Formula, type FormulaAttribute, type ServiceNode } from '@detour/intent';
import type { Measured, Reading, Source } from './attributes.js';
import { GatewayReadings } from './gateway-readings.js';
import { findInput, type NodeReadings } from './inputs.js';
import { type Evaluation, evaluateNode } from './score.js';
import { Smoother } from './smoothing.js';

export interface NodeWatchSpec {
  readonly node: ServiceNode;
  readonly formula: Formula;
  readonly otherZoneFactor: number;
  /** Time constant in ms; 0: nothing is smoothed. */
  readonly smoothingMs: number;
  readonly clock: Clock;
  /** The score in force, as last seen. */
  readonly published: () => ScoreValue | null;
  readonly onEvaluation: (evaluation: Evaluation) => void;
}

export class NodeWatch implements Disposable {
  readonly #readings: Map<Measured, Reading>;
  readonly #gateways: GatewayReadings;
  readonly #smoother: Smoother;
  readonly #watchedSinceMs: number;
  #evaluation: Evaluation;
  #cancel: () => void = () => {};

  /** `before`: the watch of the same node under an older revision, whose readings go on. */
  constructor(
    private readonly spec: NodeWatchSpec,
    before?: NodeWatch,
  ) {
    this.#readings = new Map(before === undefined ? [] : before.#readings);
    this.#gateways = before === undefined ? new GatewayReadings() : before.#gateways;
    this.#watchedSinceMs = before === undefined ? spec.clock.monoMs() : before.#watchedSinceMs;
    const goesOn = before !== undefined && before.spec.smoothingMs === spec.smoothingMs;
    this.#smoother = goesOn ? before.#smoother : new Smoother(spec.smoothingMs);
    if (!goesOn) this.#smoother.adopt(spec.published()?.smoothed);
    this.#evaluation = this.evaluate();
  }

  get evaluation(): Evaluation {
    return this.#evaluation;
  }

  /** Takes believed values; `ageMs` is how old they were when they came. */
  take(
    values: ReadonlyMap<Measured, number>,
    from: { readonly source: Source; readonly reporter: string; readonly ageMs: number },
  ): void {
    const { source, reporter } = from;
    const nowMs = this.spec.clock.monoMs();
    const atMs = nowMs - Math.max(0, from.ageMs);
    if (source === 'gateway') this.#gateways.take(reporter, values, atMs);
    else
      for (const [name, value] of values) {
        const held = this.#readings.get(name);
        if (held === undefined || held.atMs <= atMs)
          this.#readings.set(name, { value, atMs, source, reporter });
      }
    for (const name of values.keys()) {
      const input = isScored(name) ? findInput(name, this.#found(nowMs)) : null;
      if (input?.kind === 'found' && input.by === source) this.#smoother.take(name, input.value, nowMs);
    }
    this.evaluate();
  }

  /** Another replica published: what it had smoothed is where all go on from. */
  adopt({ smoothed }: ScoreValue): void {
    this.#smoother.adopt(smoothed);
    this.evaluate();
  }

  /** Gateways that are declared; what others measured is forgotten. */
  keepGateways(gateways: ReadonlySet<string>): void {
    this.#gateways.keepOnly(gateways);
  }

  /** Evaluates now, and again when the next input becomes too old. */
  evaluate(): Evaluation {
    const { formula, clock, onEvaluation } = this.spec;
    this.#cancel();
    const nowMs = clock.monoMs();
    this.#evaluation = evaluateNode(formula, this.#found(nowMs));
    this.#forgetUnmeasured(this.#evaluation);
    const { dueMs } = this.#evaluation;
    if (dueMs !== null) this.#cancel = clock.after(Math.max(0, dueMs - nowMs) + 1, () => this.evaluate());
    onEvaluation(this.#evaluation);
    return this.#evaluation;
  }

  /** A node that is stale begins anew, and so does what is not measured any more; what is only waited for goes on. */
  #forgetUnmeasured(evaluation: Evaluation): void {
    if (evaluation.kind === 'pending') return;
    const { fresh, smoothed } = evaluation;
    for (const name of this.#smoother.names())
      if (!fresh || !Object.hasOwn(smoothed, name)) this.#smoother.forget(name);
  }

  #found(nowMs: number): NodeReadings {
    const { node, otherZoneFactor, published } = this.spec;
    return {
      ...{ node, nowMs, otherZoneFactor },
      readings: this.#readings,
      gateways: this.#gateways,
      watchedSinceMs: this.#watchedSinceMs,
      smoothed: (name) => this.#smoother.of(name),
      counted: published()?.counted ?? [],
    };
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }
}

/** Whether a formula may name it. */
function isScored(name: Measured): name is Measured & FormulaAttribute {
  return FORMULA_ATTRIBUTES.some((known) => known === name);
}
