// SPDX-License-Identifier: Apache-2.0
import { parseMetricExpression } from '@detour/intent';
import { describe, expect, it } from 'vitest';
import type { Measured } from './attributes.js';
import { metricsOf, readMetrics, type Sums } from './metric-values.js';
import { parsePrometheusText } from './prometheus-text.js';

const expressionsOf = (texts: Partial<Record<Measured, string>>) =>
  new Map(
    Object.entries(texts).map(([attribute, text]) => {
      const parsed = parseMetricExpression(text);
      if (!parsed.ok) throw new Error(parsed.message);
      return [attribute as Measured, parsed.expression] as const;
    }),
  );

function read(
  texts: Partial<Record<Measured, string>>,
  scrape: string,
  { before = null, monoMs = 0 }: { before?: Sums | null; monoMs?: number } = {},
) {
  const expressions = expressionsOf(texts);
  const parsed = parsePrometheusText(scrape, metricsOf(expressions));
  if (!parsed.ok) throw new Error(parsed.why);
  const { values, ...rest } = readMetrics(parsed.samples, expressions, { before, nowMs: 1_000, monoMs });
  return { ...rest, values: Object.fromEntries(values) };
}

describe('readMetrics', () => {
  it('adds up the samples that carry the labels', () => {
    const scrape =
      'up 1\nsessions{zone="a",proto="tcp"} 10\nsessions{zone="b",proto="tcp"} 5\nsessions{zone="a"} 1\n';
    expect(read({ connections: 'sessions' }, scrape).values).toEqual({ connections: 16 });
    expect(read({ connections: 'sessions{proto="tcp"} * 2' }, scrape).values).toEqual({ connections: 30 });
    expect(read({ connections: 'sessions{ zone = "a" , proto="tcp", }' }, scrape).values).toEqual({
      connections: 10,
    });
    expect(read({ memory: 'min(1, sessions / 32)', cpu: 'up / 4' }, scrape).values).toEqual({
      memory: 0.5,
      cpu: 0.25,
    });
  });

  it('takes a rate between two scrapes; at the first, and where a counter began anew, there is none', () => {
    const cpu = { cpu: 'rate(busy_seconds_total{core="0"})' };
    const first = read(cpu, 'busy_seconds_total{core="0"} 100\nbusy_seconds_total{core="1"} 7\n');
    expect(first).toMatchObject({ values: {}, refused: [] });
    const { sums: before } = first;
    expect(read(cpu, 'busy_seconds_total{core="0"} 101\n', { before, monoMs: 4_000 }).values).toEqual({
      cpu: 0.25,
    });
    expect(read(cpu, 'busy_seconds_total{core="0"} 3\n', { before, monoMs: 4_000 }).values).toEqual({});
    expect(read(cpu, 'busy_seconds_total{core="0"} 101\n', { before, monoMs: 0 }).values).toEqual({});
  });

  it('leaves out an attribute whose metric is not there, and refuses by name what cannot be', () => {
    expect(read({ cpu: 'load', connections: 'sessions' }, 'sessions 3\n')).toMatchObject({
      values: { connections: 3 },
      refused: [],
    });
    expect(read({ cpu: 'load / none', memory: 'load' }, 'load NaN\nnone 0\n').refused).toEqual([
      'cpu: NaN is outside 0..1 (share)',
      'memory: NaN is outside 0..1 (share)',
    ]);
    expect(read({ cpu: 'load' }, 'load 1 99999999\n').refused[0]).toContain('load: timestamp');
  });
});

describe('expressions over metrics', () => {
  it.each([
    ['load1{', 'cannot be read at "{"', 6],
    ['load1{core=0}', 'cannot be read', 6],
    ['rate(1)', 'where a name belongs', 6],
    ['rate(a, b)', '","', 7],
    ['sum(a)', '"("', 4],
    [`a{${'b="c" '.repeat(150)}`, 'cannot be read', 2],
  ])('refuses %j', (text, message, character) => {
    const parsed = parseMetricExpression(text);
    expect(parsed).toMatchObject({ ok: false, message: expect.stringContaining(message) });
    if (!parsed.ok) expect(parsed.message).toContain(`(character ${character})`);
  });
});
