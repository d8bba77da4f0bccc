// SPDX-License-Identifier: Apache-2.0
/**
 * selection: how long selection tables take to build, by number of paths, and how long after one path's weight changed.
 *
 * A chain has at most 1,024 paths, so 10,000 are ten chains of 1,000. A changed weight makes its chain's table anew: that is what is timed,
 * with the largest of these chains. tunnel-gw does it on a thread of its own.
 */
import { buildSelection, type Member } from '@detour/tables';
import type { Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { cpuMs } from '../simulate/cpu-time.js';

const SIZES = [
  { name: '10', paths: 10, chains: 1 },
  { name: '1k', paths: 1_000, chains: 1 },
  { name: '10k', paths: 1_000, chains: 10 },
] as const;
const WEIGHT = 100;

export const selection: Benchmark = {
  name: 'selection',
  what: 'selection tables of 10, 1,000 and 10,000 paths built; one weight changed',
  run: async (context) => {
    const figures: Figure[] = [];
    for (const { name, paths, chains } of SIZES) {
      const samples = await measureRounds(context, `selection, ${name} paths`, {
        build: () => Promise.resolve(timed(() => buildAll(paths, chains))),
        change: () => Promise.resolve(timed(() => buildSelection(members(paths, 2 * WEIGHT), 1))),
      });
      figures.push(
        valueFigure({
          name: `selection.build[${name}]`,
          unit: 'ms',
          values: samples.of('build'),
          ...(name === '10k' ? { goal: { of: 'value', atMost: 1_000 } as const } : {}),
          detail: { chains, pathsOfEach: paths },
        }),
        valueFigure({
          name: `selection.change[${name}]`,
          unit: 'ms',
          values: samples.of('change'),
          goal: { of: 'value', atMost: 50 },
        }),
      );
    }
    return figures;
  },
};

/** All of one weight, but for the path in the middle. */
function members(paths: number, weight: number): Member[] {
  const changed = paths >> 1;
  return Array.from({ length: paths }, (_, i) => ({ path: i + 1, weight: i === changed ? weight : WEIGHT }));
}

function buildAll(paths: number, chains: number): void {
  for (let chain = 1; chain <= chains; chain++) buildSelection(members(paths, WEIGHT), chain);
}

/** CPU time: what else the machine does counts little. */
function timed(work: () => void): number {
  return cpuMs(work)[1];
}
