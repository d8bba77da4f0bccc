// SPDX-License-Identifier: Apache-2.0
/** One node under watch: its readings, and a new evaluation whenever one arrives or becomes too old. */
import type { Clock } from '@detour/core';
import type { Formula, ServiceNode } from '@detour/intent';
import type { Measured, Reading } from './attributes.js';
import { type Evaluation, evaluateNode } from './score.js';

export interface NodeWatchSpec {
  readonly node: ServiceNode;
  readonly formula: Formula;
  readonly otherZoneFactor: number;
  readonly clock: Clock;
  readonly onEvaluation: (evaluation: Evaluation) => void;
}

export class NodeWatch implements Disposable {
  readonly #readings: Map<Measured, Reading>;
  readonly #watchedSinceMs: number;
  #evaluation: Evaluation;
  #cancel: () => void = () => {};

  /** `before`: the watch of the same node under an older revision, whose readings go on. */
  constructor(
    private readonly spec: NodeWatchSpec,
    before?: NodeWatch,
  ) {
    this.#readings = new Map(before === undefined ? [] : before.#readings);
    this.#watchedSinceMs = before === undefined ? spec.clock.monoMs() : before.#watchedSinceMs;
    this.#evaluation = this.evaluate();
  }

  get evaluation(): Evaluation {
    return this.#evaluation;
  }

  /** Takes believed values; `ageMs` is how old they were when they came. */
  take(
    values: ReadonlyMap<Measured, number>,
    from: { readonly source: Reading['source']; readonly reporter: string; readonly ageMs: number },
  ): void {
    const atMs = this.spec.clock.monoMs() - Math.max(0, from.ageMs);
    for (const [name, value] of values) {
      const held = this.#readings.get(name);
      if (held === undefined || held.atMs <= atMs)
        this.#readings.set(name, { value, atMs, source: from.source, reporter: from.reporter });
    }
    this.evaluate();
  }

  /** Evaluates now, and again when the next input becomes too old. */
  evaluate(): Evaluation {
    const { node, formula, otherZoneFactor, clock, onEvaluation } = this.spec;
    this.#cancel();
    const nowMs = clock.monoMs();
    this.#evaluation = evaluateNode(formula, {
      node,
      readings: this.#readings,
      nowMs,
      watchedSinceMs: this.#watchedSinceMs,
      otherZoneFactor,
    });
    const { dueMs } = this.#evaluation;
    if (dueMs !== null) this.#cancel = clock.after(Math.max(0, dueMs - nowMs) + 1, () => this.evaluate());
    onEvaluation(this.#evaluation);
    return this.#evaluation;
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }
}
