// SPDX-License-Identifier: Apache-2.0
/**
 * The Prometheus text exposition format 0.0.4, read strictly: as Prometheus itself does, one malformed line refuses the whole
 * scrape. Only samples of the wanted metrics are kept, so that a large exporter costs no memory.
 */

/** One line of an exporter's answer. `timestampMs` is wall clock, where the exporter gives one. */
export interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
  readonly timestampMs: number | null;
}

export type PrometheusResult =
  | { readonly ok: true; readonly samples: readonly Sample[] }
  | { readonly ok: false; readonly why: string; readonly got: string };

/** Longest line in characters, most labels of one sample, most kept samples. */
const MAX_LINE_CHARS = 65_536;
const MAX_LABELS = 64;
const MAX_SAMPLES = 65_536;
const SHOWN_CHARS = 80;

const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL = /[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\[\\"n])*)"[ \t]*(,|(?=\}))/y;
const AFTER_NAME = /^[ \t]+(\S+)(?:[ \t]+(-?\d{1,16}))?$/;
const AFTER_LABELS = /^[ \t]*(\S+)(?:[ \t]+(-?\d{1,16}))?$/;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

type LineResult = Sample | { readonly why: string };

/** Reads an exporter's whole answer; keeps the samples whose metric is in `wanted`. Never throws. */
export function parsePrometheusText(text: string, wanted: ReadonlySet<string>): PrometheusResult {
  const samples: Sample[] = [];
  let number = 0;
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    number++;
    const refuse = (why: string): PrometheusResult => ({
      ok: false,
      why: `line ${number}: ${why}`,
      got: text.slice(start, Math.min(end, start + SHOWN_CHARS)),
    });
    if (end - start > MAX_LINE_CHARS) return refuse(`is longer than ${MAX_LINE_CHARS} characters`);
    const line = text.slice(start, end).replace(/\r$/, '').trim();
    if (line !== '' && !line.startsWith('#')) {
      const sample = parseLine(line);
      if ('why' in sample) return refuse(sample.why);
      if (wanted.has(sample.name)) samples.push(sample);
      if (samples.length > MAX_SAMPLES)
        return refuse(`is more than the ${MAX_SAMPLES} samples that are read`);
    }
    start = end + 1;
  }
  return { ok: true, samples };
}

/** `name{label="value",…} value [timestamp]` */
function parseLine(line: string): LineResult {
  NAME.lastIndex = 0;
  const name = NAME.exec(line)?.[0];
  if (name === undefined) return { why: 'does not begin with a metric name' };
  const labels = new Map<string, string>();
  let at = name.length;
  const brace = /^[ \t]*\{/.exec(line.slice(at));
  if (brace !== null) {
    at += brace[0].length;
    const close = readLabels(line, at, labels);
    if (typeof close !== 'number') return close;
    at = close;
  }
  const tail = (brace === null ? AFTER_NAME : AFTER_LABELS).exec(line.slice(at));
  if (tail === null) return { why: 'has no "value" or "value timestamp" after the metric' };
  const value = parseValue(tail[1] ?? '');
  if (value === null) return { why: `has "${(tail[1] ?? '').slice(0, SHOWN_CHARS)}", which is no number` };
  return { name, labels, value, timestampMs: tail[2] === undefined ? null : Number(tail[2]) };
}

/** The offset behind the closing brace. */
function readLabels(line: string, from: number, labels: Map<string, string>): number | { why: string } {
  let at = from;
  for (;;) {
    const close = /^[ \t]*\}/.exec(line.slice(at));
    if (close !== null) return at + close[0].length;
    LABEL.lastIndex = at;
    const match = LABEL.exec(line);
    if (match === null) return { why: 'has malformed labels' };
    const [whole, label = '', value = ''] = match;
    if (labels.has(label)) return { why: `has the label "${label}" twice` };
    if (labels.size >= MAX_LABELS) return { why: `has more than ${MAX_LABELS} labels` };
    labels.set(
      label,
      value.replace(/\\([\\"n])/g, (_, char: string) => (char === 'n' ? '\n' : char)),
    );
    at += whole.length;
  }
}

/** A Go float as Prometheus writes it; null when it is none. NaN and the infinities are values of the format. */
function parseValue(text: string): number | null {
  if (NUMBER.test(text)) return Number(text);
  switch (text.toLowerCase().replace(/^\+/, '')) {
    case 'nan':
      return Number.NaN;
    case 'inf':
      return Number.POSITIVE_INFINITY;
    case '-inf':
      return Number.NEGATIVE_INFINITY;
    default:
      return null;
  }
}
