// SPDX-License-Identifier: Apache-2.0
// `make bench`: runs the benchmarks one after the other, prints a table, writes results/latest.json.
// In: --only NAME (a benchmark or the start of a figure's name), --flows 1,100k (of steer and program), --rounds N, --list, --readme.
// Out: exit 0 when all could be measured.
import { parseArgs } from 'node:util';
import { describeError } from '@detour/core';
import type { Benchmark, Figure } from './figure.js';
import { terminalProgress } from './progress.js';
import { saveFigures, tableText, writeReadme } from './report.js';
import { applyLatency } from './stack/apply-latency.js';
import { failover } from './stack/failover.js';
import { flowsNew } from './stack/flows-new.js';
import { healthLatency } from './stack/health-latency.js';
import { manyRows } from './stack/many-rows.js';
import { refreshing } from './stack/refreshing.js';
import { selectPaths } from './stack/select-paths.js';
import { survival } from './stack/survival.js';
import { takeover } from './stack/takeover.js';
import { steer } from './steer/steer.js';
import { affinity } from './tables/affinity.js';
import { classify } from './tables/classify.js';
import { compile } from './tables/compile.js';
import { equivalence } from './tables/equivalence.js';
import { memory } from './tables/memory.js';
import { selection } from './tables/selection.js';
import { spread } from './tables/spread.js';
import { tries } from './tables/tries.js';

const BENCHMARKS: readonly Benchmark[] = [
  steer,
  flowsNew,
  failover,
  takeover,
  survival,
  refreshing,
  selectPaths,
  applyLatency,
  healthLatency,
  manyRows,
  classify,
  tries,
  compile,
  equivalence,
  selection,
  spread,
  affinity,
  memory,
];
const LEAST_ROUNDS = 5;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    flows: { type: 'string' },
    rounds: { type: 'string' },
    list: { type: 'boolean' },
    readme: { type: 'boolean' },
  },
});

async function main(): Promise<number> {
  if (options.readme === true) {
    writeReadme();
    return 0;
  }
  if (options.list === true) {
    for (const { name, what } of BENCHMARKS) console.log(`${name.padEnd(16)} ${what}`);
    return 0;
  }
  const { only = '' } = options;
  const rounds = Number(options.rounds ?? LEAST_ROUNDS);
  if (!Number.isInteger(rounds) || rounds < 1) {
    console.error(`--rounds ${options.rounds}: give a whole number of 1 or more`);
    return 2;
  }
  const chosen = BENCHMARKS.filter((benchmark) => namesOf(benchmark).some((name) => overlaps(name, only)));
  if (chosen.length === 0) {
    console.error(`--only ${only}: no such benchmark; there are ${BENCHMARKS.flatMap(namesOf).join(', ')}`);
    return 2;
  }
  const flows = (options.flows ?? '').split(',').filter((size) => size !== '');
  return measure(chosen, { only, rounds, flows });
}

const namesOf = ({ name, also = [] }: Benchmark): readonly string[] => [name, ...also];
const overlaps = (name: string, only: string): boolean =>
  name.startsWith(only) || only === name || ['.', '['].some((end) => only.startsWith(`${name}${end}`));

interface Wanted {
  readonly only: string;
  readonly rounds: number;
  readonly flows: readonly string[];
}

async function measure(chosen: readonly Benchmark[], { only, rounds, flows }: Wanted): Promise<number> {
  const progress = terminalProgress(process.stderr);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const figures: Figure[] = [];
  let failed = 0;
  for (const benchmark of chosen) {
    if (stop.signal.aborted) break;
    try {
      const wants = (figure: string): boolean => figure.startsWith(only) || only.startsWith(figure);
      const all = await benchmark.run({ progress, rounds, flows, signal: stop.signal, wants });
      const whole = benchmark.name.startsWith(only);
      const wanted = all.filter(({ name }) => whole || name.startsWith(only));
      figures.push(...wanted);
      saveFigures(wanted);
    } catch (error) {
      failed++;
      progress.say(`${benchmark.name}: ${describeError(error)}`);
    }
  }
  progress.clear();
  if (figures.length > 0) console.log(tableText(figures));
  return failed === 0 && !stop.signal.aborted ? 0 : 1;
}

process.exitCode = await main();
