// SPDX-License-Identifier: Apache-2.0
// What a benchmark hands back: named figures, each beside what it is compared with.
import type { Progress } from './progress.js';
import { summarise } from './statistics.js';

/** One row of results/latest.json. */
export interface Figure {
  /** As in README.md: `steer.pps[1k]`; what is in brackets is the point of a curve. */
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The other side's value in the same unit; absent where there is nothing to compare with. */
  readonly baseline?: number;
  /** Median over the runs of value / baseline, each pair measured one after the other. */
  readonly ratio?: number;
  readonly runs: number;
  /** Half the interquartile range of the ratio (of the value where there is none), as a share of its median. */
  readonly spread: number;
  /** What is aimed for, as in the issue: `> 1.0`. */
  readonly goal?: string;
  readonly met?: boolean;
  /** What was measured beside it: loss, CPU of each process, sizes. */
  readonly detail?: Readonly<Record<string, number | string>>;
}

export type Goal =
  | { readonly of: 'ratio' | 'value'; readonly atLeast: number }
  | { readonly of: 'ratio' | 'value'; readonly above: number }
  | { readonly of: 'ratio' | 'value'; readonly atMost: number };

export interface BenchContext {
  readonly progress: Progress;
  /** How often each side is measured. */
  readonly rounds: number;
  readonly signal: AbortSignal;
  /** Flow counts to measure at, as figures name them (`1k`); none: all. */
  readonly flows: readonly string[];
  /** Whether a figure of this name is asked for: what only others need is not measured. */
  wants(figure: string): boolean;
}

export interface Benchmark {
  /** The part before the dot of its figures' names. */
  readonly name: string;
  /** Other such parts of figures that it measures as well. */
  readonly also?: readonly string[];
  /** One line: what is measured. */
  readonly what: string;
  run(context: BenchContext): Promise<Figure[]>;
}

/** A figure from pairs: values of both sides, round by round. */
export function ratioFigure(fields: {
  readonly name: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly baselines: readonly number[];
  readonly goal?: Goal;
  readonly detail?: Readonly<Record<string, number | string>>;
}): Figure {
  const ratios = fields.values.map((value, round) => value / (fields.baselines[round] ?? Number.NaN));
  const ratio = summarise(ratios);
  const value = summarise(fields.values).median;
  return {
    name: fields.name,
    value,
    unit: fields.unit,
    baseline: summarise(fields.baselines).median,
    ratio: ratio.median,
    runs: ratio.runs,
    spread: ratio.spread,
    ...goalOf(fields.goal, value, ratio.median),
    ...(fields.detail && { detail: fields.detail }),
  };
}

/** A figure that stands alone. */
export function valueFigure(fields: {
  readonly name: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly goal?: Goal;
  readonly detail?: Readonly<Record<string, number | string>>;
}): Figure {
  const { median, spread, runs } = summarise(fields.values);
  return {
    name: fields.name,
    value: median,
    unit: fields.unit,
    runs,
    spread,
    ...goalOf(fields.goal, median, Number.NaN),
    ...(fields.detail && { detail: fields.detail }),
  };
}

function goalOf(goal: Goal | undefined, value: number, ratio: number): { goal?: string; met?: boolean } {
  if (goal === undefined) return {};
  const got = goal.of === 'ratio' ? ratio : value;
  const what = goal.of === 'ratio' ? '' : ' absolute';
  if ('atLeast' in goal) return { goal: `≥ ${goal.atLeast}${what}`, met: got >= goal.atLeast };
  if ('above' in goal) return { goal: `> ${goal.above}${what}`, met: got > goal.above };
  return { goal: `≤ ${goal.atMost}${what}`, met: got <= goal.atMost };
}
