// SPDX-License-Identifier: Apache-2.0
// Smoothing, hysteresis and slow start together, by a clock that is turned by hand.
import type { ScoreValue } from '@detour/contracts';
import { type ManualClock, manualClock } from '@detour/core';
import { parseFormula, parseIntent, type ServiceNode } from '@detour/intent';
import { nextScore } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { NodeWatch } from './node-watch.js';
import { exampleIntent } from './testdata.js';

const HYSTERESIS = 0.1;

/** One node, published as the publisher does. */
/** Another node of the service, which has its whole share: those that come start slowly beside it. */
const ESTABLISHED: ScoreValue = { score: 100, fresh: true, why: '', atMs: 0 };

class Node {
  value: ScoreValue | null = null;
  readonly writes: { atMs: number; score: number }[] = [];
  readonly watch: NodeWatch;

  constructor(
    readonly clock: ManualClock,
    readonly how: { smoothingMs: number; slowStartMs?: number },
  ) {
    const parsed = parseIntent(
      exampleIntent({ nodeLines: 'capacity: 100, attributes: { report: { staleAfter: 5s } }' }),
      'x.yaml',
    );
    const formula = parseFormula('capacity * (1 - cpu)');
    if (!parsed.ok || !formula.ok) throw new Error('the example is refused');
    this.watch = new NodeWatch({
      ...{ node: parsed.intent.nodes[0] as ServiceNode, formula: formula.formula, otherZoneFactor: 1, clock },
      smoothingMs: how.smoothingMs,
      published: () => this.value,
      onEvaluation: (evaluation) => {
        if (evaluation.kind !== 'scored') return;
        const { slowStartMs = 0 } = how;
        const steps = { ...evaluation, slowStartMs, hysteresis: HYSTERESIS };
        const { value, reason } = nextScore(steps, this.value, {
          peers: [ESTABLISHED],
          nowMs: clock.nowMs(),
        });
        if (reason === null) return;
        const history = evaluation.fresh ? { smoothed: evaluation.smoothed } : {};
        this.value = { ...value, ...history, atMs: clock.nowMs() };
        this.writes.push({ atMs: clock.monoMs(), score: value.score });
      },
    });
  }

  /** A sample each second. */
  seconds(count: number, cpuAt: (second: number) => number): void {
    for (let i = 0; i < count; i++) {
      this.watch.take(new Map([['cpu', cpuAt(i)]]), { source: 'report', reporter: 'x', ageMs: 0 });
      this.clock.advance(1_000);
    }
  }
}

describe('smoothing with hysteresis and slow start', () => {
  it('a load that jumps between 20 % and 60 % every second is published once with smoothing, and each second without', () => {
    const jumps = (second: number) => (second % 2 === 0 ? 0.4 : second % 4 === 1 ? 0.2 : 0.6);
    const plain = new Node(manualClock(), { smoothingMs: 0 });
    plain.seconds(60, jumps);
    expect(plain.writes.length).toBeGreaterThan(50);
    const smoothed = new Node(manualClock(), { smoothingMs: 10_000 });
    smoothed.seconds(60, jumps);
    expect(smoothed.writes).toEqual([{ atMs: 0, score: 60 }]);
  });

  it('a lasting change is published step by step until the score is the whole of it, then never again', () => {
    const node = new Node(manualClock(), { smoothingMs: 10_000 });
    node.seconds(10, () => 0);
    node.seconds(120, () => 0.5);
    const scores = node.writes.map(({ score }) => score);
    expect(scores[0]).toBe(100);
    expect([...scores].sort((x, y) => y - x)).toEqual(scores);
    expect(scores.at(-1)).toBeLessThanOrEqual(50 / (1 - HYSTERESIS));
    expect(node.watch.evaluation).toMatchObject({ score: 50, smoothed: { cpu: 0.5 } });
    expect(node.writes.length).toBeLessThanOrEqual(7);
    const written = node.writes.length;
    node.seconds(60, () => 0.5);
    expect(node.writes.length).toBe(written);
  });

  it('a node that returns after silence starts slowly, from its load as it is and not as it was', () => {
    const node = new Node(manualClock(), { smoothingMs: 60_000, slowStartMs: 10_000 });
    node.seconds(30, () => 0.9);
    expect(node.value?.ramp).toBeUndefined();
    node.clock.advance(6_000);
    expect(node.value).toMatchObject({ score: 0, fresh: false });
    expect(node.value?.smoothed).toBeUndefined();
    const before = node.writes.length;
    node.seconds(12, () => 0);
    expect(node.writes.slice(before).map(({ score }) => score)).toEqual([
      10, 20, 30, 40, 50, 60, 70, 80, 90, 100,
    ]);
    expect(node.value).toMatchObject({ score: 100, smoothed: { cpu: 0 } });
  });

  it('a slow start takes its steps of the smoothed worth while the load rises', () => {
    const node = new Node(manualClock(), { smoothingMs: 10_000, slowStartMs: 10_000 });
    node.seconds(1, () => 0);
    node.seconds(30, () => 1);
    const cpu = (second: number) => 1 - Math.exp(-second / 10);
    for (const { atMs, score } of node.writes.slice(1, 9)) {
      const second = atMs / 1_000;
      expect(score).toBeCloseTo(100 * (1 - cpu(second)) * ((second + 1) / 10), 3);
    }
    expect(node.value?.ramp).toBeUndefined();
  });
});
