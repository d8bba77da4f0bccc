// SPDX-License-Identifier: Apache-2.0
// `make simulate`: a day of many nodes, paths and flows by a turned clock; prints two tables and draws them.
// In: --size full|small|tiny, --seed N. Out: day.svg and growth.svg in bench/plots and tables in README.md (another size or seed:
// build/simulate alone); exit 1 when an established flow was moved that need not.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { terminalProgress } from '../progress.js';
import { Day } from './day.js';
import { GROWTH_PATHS, measureGrowth } from './growth.js';
import { dayPlot, growthPlot } from './plots.js';
import type { Result } from './result.js';
import { SIZES, type Size } from './sizes.js';
import { daySummary, growthSummary, markdown } from './summary.js';

const README = fileURLToPath(new URL('../../README.md', import.meta.url));
const COMMITTED = fileURLToPath(new URL('../../plots/', import.meta.url));
const ELSEWHERE = fileURLToPath(new URL('../../../build/simulate/', import.meta.url));
/** Of the plots and the tables that are committed. */
const SEED = '1';
const MARK_BEGIN = '<!-- simulation: made by `make simulate` -->';
const MARK_END = '<!-- simulation end -->';

const { values: options } = parseArgs({
  options: {
    size: { type: 'string', default: 'full' },
    seed: { type: 'string', default: SEED },
  },
});

function main(): number {
  const size = Object.values(SIZES).find(({ name }) => name === options.size);
  const seed = Number(options.seed);
  if (size === undefined) {
    console.error(`--size ${options.size}: no such size; there are ${Object.keys(SIZES).join(', ')}`);
    return 2;
  }
  if (!Number.isInteger(seed)) {
    console.error(`--seed ${options.seed}: give a whole number`);
    return 2;
  }
  const result = simulate(size, seed);
  const isCommitted = size === SIZES.full && options.seed === SEED;
  const folder = isCommitted ? COMMITTED : ELSEWHERE;
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}day.svg`, dayPlot(result));
  writeFileSync(`${folder}growth.svg`, growthPlot(result));
  const tables = `${markdown(daySummary(result))}\n\n${markdown(growthSummary(result.growth))}`;
  if (isCommitted) writeReadme(`${result.machine}\n\n${tables}`);
  console.log(`${tables}\n\n${folder}day.svg, ${folder}growth.svg`);
  const moved = [...result.samples, ...result.failures].reduce((sum, { pins }) => sum + pins.others, 0);
  if (moved > 0) console.error(`${moved} established flows were moved whose path was up: there must be none`);
  return moved > 0 ? 1 : 0;
}

function simulate(size: Size, seed: number): Result {
  const progress = terminalProgress(process.stderr);
  const growth = GROWTH_PATHS.map((paths) => {
    progress.step(`a table of ${paths} paths`);
    return measureGrowth(paths, seed);
  });
  progress.step(`${size.flows} flows begin`);
  const day = new Day(size, seed);
  const firstBuildMs = day.tables.buildMs;
  while (!day.isOver) {
    day.step();
    progress.step(`${(day.atMs / 3_600_000).toFixed(1)} of ${size.endMs / 3_600_000} h`);
  }
  progress.clear();
  const { user, system } = process.cpuUsage();
  return {
    seed,
    size: { ...size, nodes: day.world.nodes.size, paths: day.world.paths, chains: size.chains.length },
    machine: `Times are CPU time on ${cpus()[0]?.model.trim() ?? 'an unknown CPU'}, Node ${process.versions.node}.`,
    ...{ firstBuildMs, growth, samples: day.samples, failures: day.failures },
    cpuS: (user + system) / 1e6,
    peakMb: process.resourceUsage().maxRSS / 1024,
  };
}

/** The tables between their marks. */
function writeReadme(text: string): void {
  const readme = readFileSync(README, 'utf8');
  const [before = '', rest = ''] = readme.split(MARK_BEGIN);
  const [, after = ''] = rest.split(MARK_END);
  writeFileSync(README, `${before}${MARK_BEGIN}\n\n${text}\n\n${MARK_END}${after}`);
}

process.exitCode = main();
