// SPDX-License-Identifier: Apache-2.0
/**
 * spread: how evenly a selection table gives slots to paths, and how many slots change hands when a path goes or its weight changes.
 *
 * spread.imbalance   the largest share over the ideal (1/N), minus 1, in percent; beside plain Maglev's
 * spread.leave       slots that change hands when one of N equal paths goes, as a share of all; the ideal is 1/N (its own)
 * spread.maglev      the same, beside what changes hands in plain Maglev's table of the same size
 * spread.weight      the same when one path's weight doubles; the ideal is what its share grows by (Maglev has no weights)
 */
import { buildSelection, type Member, slotCount } from '@detour/tables';
import type { Benchmark, Figure } from '../figure.js';
import { maglevTable } from './maglev.js';

const SIZES = [2, 10, 32, 100] as const;
const CHAIN = 1;
const WEIGHT = 100;

export const spread: Benchmark = {
  name: 'spread',
  what: 'imbalance of selection tables, and disruption beside the ideal and plain Maglev',
  run: (context) => {
    const figures = SIZES.flatMap((paths) => {
      context.progress.step(`spread: ${paths} paths`);
      return [...measureImbalance(paths), ...measureLeave(paths), measureWeight(paths)];
    });
    return Promise.resolve(figures);
  },
};

function members(paths: number, weightOf: (path: number) => number = () => WEIGHT): Member[] {
  return Array.from({ length: paths }, (_, i) => ({ path: i + 1, weight: weightOf(i + 1) }));
}

function names(paths: number): string[] {
  return Array.from({ length: paths }, (_, i) => `path ${i + 1}`);
}

function measureImbalance(paths: number): Figure[] {
  const slots = slotCount(paths);
  const over = (table: Uint16Array): number => {
    const counts = new Map<number, number>();
    for (const path of table) counts.set(path, (counts.get(path) ?? 0) + 1);
    return (Math.max(...counts.values()) / (slots / paths) - 1) * 100;
  };
  const value = over(buildSelection(members(paths), CHAIN));
  const baseline = over(maglevTable(names(paths), slots));
  return [
    {
      name: `spread.imbalance[${paths}]`,
      value,
      unit: '%',
      baseline,
      runs: 1,
      spread: 0,
      goal: '≤ 1 absolute',
      met: value <= 1,
      detail: { slots },
    },
  ];
}

/** Slots that name another path, as a share of all in percent. */
function changed(before: Uint16Array, after: Uint16Array): number {
  let count = 0;
  for (const [slot, path] of before.entries()) if (after[slot] !== path) count++;
  return (count / before.length) * 100;
}

function measureLeave(paths: number): Figure[] {
  const gone = Math.ceil(paths / 2);
  const slots = slotCount(paths);
  const value = changed(
    buildSelection(members(paths), CHAIN),
    buildSelection(
      members(paths, (path) => (path === gone ? 0 : WEIGHT)),
      CHAIN,
    ),
  );
  const all = names(paths);
  const rest = all.filter((_, i) => i + 1 !== gone);
  const byName = (list: readonly string[]): Uint16Array =>
    maglevTable(list, slots).map((index) => all.indexOf(list[index] ?? ''));
  const beside = (name: string, baseline: number, what: string): Figure => ({
    ...{ name: `spread.${name}[${paths}]`, value, unit: '%', baseline, ratio: value / baseline },
    ...{ runs: 1, spread: 0, detail: { baseline: what } },
  });
  return [
    beside('leave', 100 / paths, 'the ideal, 1/N'),
    beside('maglev', changed(byName(all), byName(rest)), 'plain Maglev'),
  ];
}

function measureWeight(paths: number): Figure {
  const grown = Math.ceil(paths / 2);
  const after = members(paths, (path) => (path === grown ? 2 * WEIGHT : WEIGHT));
  const value = changed(buildSelection(members(paths), CHAIN), buildSelection(after, CHAIN));
  const ideal = (2 / (paths + 1) - 1 / paths) * 100;
  return {
    name: `spread.weight[${paths}]`,
    value,
    unit: '%',
    baseline: ideal,
    ratio: value / ideal,
    runs: 1,
    spread: 0,
    detail: { baseline: 'the ideal' },
  };
}
