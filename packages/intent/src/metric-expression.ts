// SPDX-License-Identifier: Apache-2.0
/**
 * The language of `attributes.prometheus.metrics`: arithmetic over an exporter's metrics. `name{label="value"}` is the sum of the samples of
 * that metric that carry these labels, `rate(…)` how much that sum grew per second between two scrapes.
 */
import { type Expression, type ExpressionResult, type Language, parseExpression } from './expression.js';

/** Samples of one metric, added up. */
export interface MetricSum {
  readonly metric: string;
  /** Labels that a sample must carry, with these values. */
  readonly labels: Readonly<Record<string, string>>;
  /** Its growth per second between two scrapes, instead of itself. */
  readonly rate: boolean;
}

export type MetricExpression = Expression<MetricSum>;

const LABEL = '[a-zA-Z_]\\w*\\s*=\\s*"(?:[^"\\\\\\n]|\\\\[\\\\"n])*"';

const METRICS: Language<MetricSum> = {
  // A comma or the closing brace follows each label, so that there is one way to read a selector.
  word: `[a-zA-Z_:][\\w:]*(?:\\{\\s*(?:${LABEL}\\s*(?:,\\s*|(?=\\})))*\\})?`,
  wordFunctions: ['rate'],
  read: (word, by) => {
    const [metric = ''] = word.split('{', 1);
    const labels: Record<string, string> = {};
    for (const [, label = '', value = ''] of word
      .slice(metric.length)
      .matchAll(/([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\\n]|\\[\\"n])*)"/g))
      labels[label] = value.replace(/\\([\\"n])/g, (_, char: string) => (char === 'n' ? '\n' : char));
    return { ok: true, name: { metric, labels, rate: by === 'rate' } };
  },
};

/** Parses an expression over metrics; never throws. */
export function parseMetricExpression(text: string): ExpressionResult<MetricSum> {
  return parseExpression(text, METRICS);
}
