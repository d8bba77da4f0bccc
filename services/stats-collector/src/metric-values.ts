// SPDX-License-Identifier: Apache-2.0
/** What an exporter of any kind says about a node: attributes by the operator's expressions over its metrics. Pure. */
import { evaluateExpression, type MetricExpression, type MetricSum, namesIn } from '@detour/intent';
import { isMeasured, type Measured, refuseTimestamp, refuseValue } from './attributes.js';
import type { Sample } from './prometheus-text.js';

export type MetricExpressions = ReadonlyMap<Measured, MetricExpression>;

/** Sums of one scrape, by sum; kept for the rates of the next one. */
export interface Sums {
  readonly byKey: ReadonlyMap<string, number>;
  /** Monotonic. */
  readonly atMs: number;
}

export interface MetricReading {
  readonly values: ReadonlyMap<Measured, number>;
  readonly refused: readonly string[];
  readonly sums: Sums;
}

/** Metrics that expressions name. */
export function metricsOf(expressions: MetricExpressions): ReadonlySet<string> {
  return new Set([...expressions.values()].flatMap((one) => namesIn(one).map(({ metric }) => metric)));
}

/**
 * An attribute is left out where a metric of its expression is not there, or has no rate yet: at the first scrape, and where a counter
 * began anew. It is refused by name where the result is beyond its bounds.
 */
export function readMetrics(
  samples: readonly Sample[],
  expressions: MetricExpressions,
  {
    before,
    nowMs,
    monoMs,
  }: { readonly before: Sums | null; readonly nowMs: number; readonly monoMs: number },
): MetricReading {
  const refused: string[] = [];
  const believed = samples.filter((sample) => {
    const why = sample.timestampMs === null ? null : refuseTimestamp(sample.timestampMs, nowMs);
    if (why !== null) refused.push(`${sample.name}: ${why}`);
    return why === null;
  });
  const byKey = new Map<string, number>();
  for (const expression of expressions.values())
    for (const name of namesIn(expression)) {
      const sum = sumOf(believed, name);
      if (sum !== null) byKey.set(keyOf(name), sum);
    }
  const sums: Sums = { byKey, atMs: monoMs };
  const values = new Map<Measured, number>();
  for (const [attribute, expression] of expressions) {
    const known = new Map(namesIn(expression).map((name) => [name, worthOf(name, sums, before)]));
    if ([...known.values()].includes(null)) continue;
    const value = evaluateExpression(expression, (name) => known.get(name) ?? Number.NaN);
    const why = refuseValue(attribute, value);
    if (why !== null) refused.push(why);
    else if (isMeasured(attribute)) values.set(attribute, value);
  }
  return { values, refused, sums };
}

function sumOf(samples: readonly Sample[], { metric, labels }: MetricSum): number | null {
  const wanted = Object.entries(labels);
  let sum: number | null = null;
  for (const sample of samples)
    if (sample.name === metric && wanted.every(([label, value]) => sample.labels.get(label) === value))
      sum = (sum ?? 0) + sample.value;
  return sum;
}

function worthOf(name: MetricSum, now: Sums, before: Sums | null): number | null {
  const sum = now.byKey.get(keyOf(name));
  if (sum === undefined) return null;
  if (!name.rate) return sum;
  const earlier = before?.byKey.get(keyOf(name));
  const seconds = before === null ? 0 : (now.atMs - before.atMs) / 1000;
  if (earlier === undefined || seconds <= 0 || sum < earlier) return null;
  return (sum - earlier) / seconds;
}

function keyOf({ metric, labels }: MetricSum): string {
  return JSON.stringify([metric, Object.entries(labels).sort()]);
}
