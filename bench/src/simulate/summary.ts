// SPDX-License-Identifier: Apache-2.0
// A run in two tables, for a terminal and for README.md.
import { quantile } from '../statistics.js';
import type { Growth } from './growth.js';
import { FEW_PATHS } from './measures.js';
import type { Result } from './result.js';

export type Table = readonly (readonly string[])[];

const percent = (part: number, digits = 2): string => `${(part * 100).toFixed(digits)} %`;
const multiple = (value: number): string => `× ${value.toFixed(2)}`;
const whole = (value: number): string => value.toLocaleString('en', { maximumFractionDigits: 0 });

export function daySummary({ samples, failures, size, firstBuildMs, cpuS, peakMb }: Result): Table {
  const over = (parts: readonly number[]) =>
    `${percent(quantile(parts, 0.5))}, at most ${percent(Math.max(...parts))}`;
  const moved = sum(samples.map((sample) => sample.moved));
  const least = sum(samples.map((sample) => sample.least));
  const real = failures.filter((failure) => failure.least > 0);
  const ratios = real.map((failure) => failure.moved / failure.least);
  const maglevRatios = real.map(({ maglev }) => maglev.moved / maglev.least);
  const pins = [...samples, ...failures].map((one) => one.pins);
  const bytes = samples.at(-1)?.bytes ?? 0;
  const builds = samples.map(({ buildMs }) => buildMs / 1000);
  return [
    ['quantity', 'measured', 'beside'],
    ['the most loaded node, by slots', over(samples.map((s) => s.overNode)), 'its share of the scores'],
    [
      `the most loaded path, chains of up to ${FEW_PATHS}`,
      over(samples.map((s) => s.overPathFew)),
      'its weight',
    ],
    [
      'the most loaded path, larger chains',
      over(samples.map((s) => s.overPathMany)),
      `its weight; plain Maglev, all alike: ${over(samples.map((s) => s.maglevOverPath))}`,
    ],
    ['slots that another path should have', over(samples.map((s) => s.misplaced)), '0'],
    [
      'the most loaded node, by flows that begin in a step',
      over(samples.map((s) => s.begunOverNode)),
      `by lot: ${over(samples.map((s) => s.lotOverNode))}`,
    ],
    [
      'tables changed by weights, mean of a step',
      percent(moved / samples.length),
      `must change: ${percent(least / samples.length)} (${multiple(moved / least)})`,
    ],
    [
      'tables changed by nodes that go down, of what must',
      `${multiple(quantile(ratios, 0.5))}, at most ${multiple(Math.max(...ratios))}`,
      `plain Maglev: ${multiple(quantile(maglevRatios, 0.5))}, at most ${multiple(Math.max(...maglevRatios))}`,
    ],
    [
      'established flows moved, their node down',
      whole(sum(pins.map((one) => one.ofDown))),
      `on such nodes: ${whole(sum(failures.map(({ flows }) => flows)))}`,
    ],
    ['established flows moved, others', whole(sum(pins.map((one) => one.others))), '0'],
    [
      `slots of all ${whole(size.paths)} paths`,
      `${whole(bytes)} B`,
      `${(bytes / size.paths).toFixed(0)} B a path`,
    ],
    [
      'tables built in a step, CPU',
      `${quantile(builds, 0.5).toFixed(2)} s, at most ${Math.max(...builds).toFixed(2)} s`,
      `the first time: ${(firstBuildMs / 1000).toFixed(2)} s`,
    ],
    ['scores published in a day', whole(sum(samples.map(({ published }) => published))), ''],
    ['the simulation itself, CPU', `${cpuS.toFixed(0)} s`, `memory at most ${whole(peakMb)} MB`],
  ];
}

export function growthSummary(growth: readonly Growth[]): Table {
  return [
    [
      ...['paths', 'slots', 'bytes', 'build', 'Maglev: build', 'over, equal', 'over, worth 1 to 4'],
      ...['Maglev: over', 'leaves', 'Maglev: leaves', 'halved'],
    ],
    ...growth.map((point) => [
      ...[whole(point.paths), whole(point.slots), whole(point.bytes)],
      ...[`${point.buildMs.toFixed(1)} ms`, `${point.maglevMs.toFixed(1)} ms`],
      ...[percent(point.overEqual), percent(point.overUnequal), percent(point.maglevOver)],
      ...[multiple(point.leaves), multiple(point.maglevLeaves), multiple(point.halved)],
    ]),
  ];
}

/** As the formatter has it: columns as wide as their widest cell. */
export function markdown(table: Table): string {
  const [head = [], ...rows] = table;
  const widths = head.map((_, column) => Math.max(3, ...table.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    `| ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join(' | ')} |`;
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rows.map(line)].join(
    '\n',
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((left, right) => left + right, 0);
}
