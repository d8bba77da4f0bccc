// SPDX-License-Identifier: Apache-2.0
// The two plots: a simulated day, and tables by number of paths.
import { countAxis, linearAxis, logAxis, timeAxis } from './axis.js';
import { type Band, type Panel, plotSvg, type Series } from './chart.js';
import type { Growth } from './growth.js';
import { FEW_PATHS } from './measures.js';
import type { Result } from './result.js';
import type { Failure, Sample } from './samples.js';

const OURS = 0;
const OTHER = 1;
const IDEAL = 2;
const MANY = 3;
const MAGLEV = 4;

const percent = (part: number): number => part * 100;

export function dayPlot({ size, samples, failures, machine }: Result): string {
  const x = timeAxis(size.endMs);
  const bands: Band[] = size.mishaps.map(({ name, fromMs, toMs }) => ({ name, from: fromMs, to: toMs }));
  const over = (read: (sample: Sample) => number) =>
    samples.map((sample) => [sample.atMs, read(sample)] as const);
  const panel = (title: string, label: string, { series, y }: Drawn): Panel => {
    const values = series.flatMap(({ points }) => points.map(([, value]) => value));
    const from = y === 'multiple' ? 1 : 0;
    return {
      title,
      x,
      bands,
      series,
      y: y === 'log' ? logAxis(values, { label }) : linearAxis(values, { label, from }),
    };
  };
  return plotSvg({
    title: `A day of ${count(size.nodes)} nodes, ${count(size.paths)} paths in ${size.chains} chains, ${count(size.flows)} flows`,
    notes: [
      `Racks go down or are drained in the shaded hours, single nodes in between. Tables follow the scores every ${size.stepMs / 60_000} minutes.`,
      machine,
    ],
    columns: 1,
    panels: [
      panel('Tables: the most loaded, over its share', '% over the ideal', tablesSpread(over)),
      panel('Flows that begin: the most loaded node, over its share', '% over the ideal', {
        y: 'linear',
        series: [
          { name: 'by the tables', as: 'line', colour: OURS, points: over((s) => percent(s.begunOverNode)) },
          {
            ...{ name: 'by lot, with exactly the right probabilities', as: 'dashes', colour: IDEAL },
            points: over((s) => percent(s.lotOverNode)),
          },
        ],
      }),
      panel('Weights change: flows to which the tables answer with another path', '% of all flows', {
        y: 'linear',
        series: [
          { name: 'changed', as: 'line', colour: OURS, points: over((s) => percent(s.moved)) },
          { name: 'must change', as: 'dashes', colour: IDEAL, points: over((s) => percent(s.least)) },
        ],
      }),
      panel('Nodes go down: what changes in the tables', 'multiple of what must', tablesChange(failures)),
      panel('Established flows that were moved', 'flows', flowsMoved({ samples, failures })),
      panel('Time to build the tables of a step', 's of CPU', {
        y: 'linear',
        series: [{ name: 'all chains', as: 'line', colour: OURS, points: over((s) => s.buildMs / 1000) }],
      }),
      panel('Size of all tables', 'bytes of slots', {
        y: 'linear',
        series: [{ name: 'all chains', as: 'line', colour: OURS, points: over((s) => s.bytes) }],
      }),
    ],
  });
}

interface Drawn {
  readonly y: 'linear' | 'log' | 'multiple';
  readonly series: readonly Series[];
}

function tablesSpread(over: (read: (sample: Sample) => number) => Series['points']): Drawn {
  const larger = over((s) => percent(s.overPathMany));
  const series: Series[] = [
    { name: 'node', as: 'line', colour: OURS, points: over((s) => percent(s.overNode)) },
    {
      ...{ name: `path, chains of up to ${FEW_PATHS}`, as: 'line', colour: OTHER },
      points: over((s) => percent(s.overPathFew)),
    },
    { name: 'path, larger chains', as: 'line', colour: MANY, points: larger },
    {
      ...{ name: 'plain Maglev: path, all worth the same', as: 'dashes', colour: MAGLEV },
      points: over((s) => percent(s.maglevOverPath)),
    },
  ];
  return { y: 'log', series: series.filter(({ points }) => points.some(([, value]) => value > 0)) };
}

function tablesChange(failures: readonly Failure[]): Drawn {
  const real = failures.filter(({ least }) => least > 0);
  const ours = real.map(({ atMs, moved, least }) => [atMs, moved / least] as const);
  const theirs = real.map(({ atMs, maglev }) => [atMs, maglev.moved / maglev.least] as const);
  return {
    y: 'multiple',
    series: [
      { name: 'Detour', as: 'dots', colour: OURS, points: ours },
      { name: 'plain Maglev', as: 'rings', colour: MAGLEV, points: theirs },
    ],
  };
}

function flowsMoved({ samples, failures }: Pick<Result, 'samples' | 'failures'>): Drawn {
  const all = [...samples, ...failures].sort((one, other) => one.atMs - other.atMs);
  const ofDown = all.flatMap(({ atMs, pins }) => (pins.ofDown > 0 ? [[atMs, pins.ofDown] as const] : []));
  return {
    y: 'linear',
    series: [
      { name: 'their node was down', as: 'dots', colour: OURS, points: ofDown },
      {
        ...{ name: 'all others', as: 'line', colour: OTHER },
        points: all.map(({ atMs, pins }) => [atMs, pins.others] as const),
      },
    ],
  };
}

export function growthPlot({ growth, machine }: Result): string {
  const label = 'paths of the chain';
  const x = countAxis(
    growth.map(({ paths }) => paths),
    { label },
  );
  const by = (read: (point: Growth) => number) => growth.map((point) => [point.paths, read(point)] as const);
  const panel = (
    title: string,
    unit: string,
    { series, log }: { series: readonly Series[]; log: boolean },
  ): Panel => {
    const values = series.flatMap(({ points }) => points.map(([, y]) => y));
    return {
      title,
      x,
      series,
      y: log ? logAxis(values, { label: unit }) : linearAxis(values, { label: unit }),
    };
  };
  return plotSvg({
    title: 'A selection table by number of paths',
    notes: [machine],
    columns: 2,
    panels: [
      panel('Time to build', 'ms of CPU', {
        log: true,
        series: [
          { name: 'Detour', as: 'line', colour: OURS, points: by((p) => p.buildMs) },
          { name: 'plain Maglev', as: 'dashes', colour: MAGLEV, points: by((p) => p.maglevMs) },
        ],
      }),
      panel('Size', 'bytes', {
        log: true,
        series: [{ name: 'slots', as: 'line', colour: OURS, points: by((p) => p.bytes) }],
      }),
      panel('The most loaded path, over its share', '% over the ideal', {
        log: false,
        series: [
          { name: 'equal', as: 'line', colour: OURS, points: by((p) => percent(p.overEqual)) },
          { name: 'worth 1 to 4', as: 'line', colour: OTHER, points: by((p) => percent(p.overUnequal)) },
          {
            name: 'plain Maglev, equal',
            as: 'dashes',
            colour: MAGLEV,
            points: by((p) => percent(p.maglevOver)),
          },
        ],
      }),
      panel('What changes hands', 'multiple of what must', {
        log: false,
        series: [
          { name: 'one leaves', as: 'line', colour: OURS, points: by((p) => p.leaves) },
          { name: 'one halved', as: 'line', colour: OTHER, points: by((p) => p.halved) },
          {
            name: 'plain Maglev, one leaves',
            as: 'dashes',
            colour: MAGLEV,
            points: by((p) => p.maglevLeaves),
          },
        ],
      }),
    ],
  });
}

function count(value: number): string {
  return value >= 1e6 ? `${value / 1e6} million` : value.toLocaleString('en');
}
