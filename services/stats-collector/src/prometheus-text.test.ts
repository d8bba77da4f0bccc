// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parsePrometheusText } from './prometheus-text.js';

const wanted = new Set(['m', 'node_cpu_seconds_total']);
const read = (text: string) => parsePrometheusText(text, wanted);
const values = (text: string) => {
  const result = read(text);
  return result.ok ? result.samples.map((sample) => sample.value) : result.why;
};

describe('parsePrometheusText', () => {
  it('reads comments, labels, values and timestamps, and keeps only wanted metrics', () => {
    const text =
      '# HELP m something\n# TYPE m gauge\nother 1\nm 3\n\nnode_cpu_seconds_total{cpu="0",mode="idle",} 1.5e2 1700000000000\nm{} -2\n';
    expect(read(text)).toEqual({
      ok: true,
      samples: [
        { name: 'm', labels: new Map(), value: 3, timestampMs: null },
        {
          name: 'node_cpu_seconds_total',
          labels: new Map([
            ['cpu', '0'],
            ['mode', 'idle'],
          ]),
          value: 150,
          timestampMs: 1_700_000_000_000,
        },
        { name: 'm', labels: new Map(), value: -2, timestampMs: null },
      ],
    });
  });

  it('takes NaN and the infinities as values', () => {
    expect(values('m NaN\nm +Inf\nm -Inf\r\nm Inf')).toEqual([Number.NaN, Infinity, -Infinity, Infinity]);
  });

  it('unescapes label values', () => {
    const result = read('m{a="x\\"y\\\\z\\n",b="}, "} 1');
    expect(result.ok && [...(result.samples[0]?.labels.values() ?? [])]).toEqual(['x"y\\z\n', '}, ']);
  });

  it.each([
    ['m', 'no "value"'],
    ['m 1 2 3', 'no "value"'],
    ['m one', 'is no number'],
    ['m 0x10', 'is no number'],
    ['m{a=1} 1', 'malformed labels'],
    ['m{a="1"', 'malformed labels'],
    ['m{a="1" b="2"} 1', 'malformed labels'],
    ['m{a="1",a="2"} 1', 'twice'],
    ['m{a="\\q"} 1', 'malformed labels'],
    ['9m 1', 'metric name'],
    ['<html>', 'metric name'],
    [`m 1\nother{x="${'y'.repeat(70_000)}"} 1`, 'line 2: is longer than 65536'],
  ])('refuses the whole scrape for %j', (text, why) => {
    const result = read(text);
    expect(result.ok).toBe(false);
    expect(!result.ok && result.why).toContain(why);
  });

  it('refuses a malformed line of a metric that is not wanted, as Prometheus does', () => {
    expect(values('m 1\nother x')).toBe('line 2: has "x", which is no number');
  });

  it('never throws, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'m{}a="\\,n 1-.e\n#\t\0é'), maxLength: 60 }),
        (text) => {
          const result = read(text);
          return result.ok || result.why.startsWith('line ');
        },
      ),
      { numRuns: 3000 },
    );
  });
});
