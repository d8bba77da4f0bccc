// SPDX-License-Identifier: Apache-2.0
// How a chain's table grows with its paths: time to build, bytes, imbalance, and what changes hands when one of its paths goes or is worth half.
import { buildSelection, type Member, slotCount } from '@detour/tables';
import { maglevTable } from '../tables/maglev.js';
import { leastMoves, tableMoves, worstOver } from './accounting.js';
import { cpuMs } from './cpu-time.js';
import { seededRandom } from './random.js';

export interface Growth {
  readonly paths: number;
  readonly slots: number;
  readonly bytes: number;
  /** CPU time of one build, the least of some. */
  readonly buildMs: number;
  readonly maglevMs: number;
  /** The most loaded path over its share: paths that are worth the same, that are worth 1 to 4, and Maglev's, which are all the same. */
  readonly overEqual: number;
  readonly overUnequal: number;
  readonly maglevOver: number;
  /** What changes hands when one of equal paths goes, as a multiple of what must; and when it is worth half. */
  readonly leaves: number;
  readonly maglevLeaves: number;
  readonly halved: number;
}

export const GROWTH_PATHS = [2, 5, 10, 20, 50, 100, 200, 350, 500, 700, 1_024] as const;
const CHAIN = 7;
const WEIGHT = 400;
/** Of so many paths each leaves once, and the mean counts. */
const LEAVERS = 5;
/** As many builds as make so many paths together, and at least three: small ones are over before the compiler is warm. */
const BUILD_PATHS = 1_000;

export function measureGrowth(paths: number, seed: number): Growth {
  const random = seededRandom(seed);
  const even = members(paths, () => WEIGHT);
  const uneven = members(paths, () => 250 + random.below(751));
  const slots = slotCount(paths);
  const names = even.map(({ path }) => String(path));
  const before = buildSelection(even, CHAIN);
  const maglev = maglevTable(names, slots);
  const counted = (table: Uint16Array, first: number) => {
    const counts = new Uint32Array(paths);
    for (const path of table) counts[path - first] = (counts[path - first] ?? 0) + 1;
    return counts;
  };
  const weights = (list: readonly Member[]) => list.map(({ weight }) => weight);
  const multiple = (path: number, weight: number) => {
    const after = even.map((one) => (one.path === path ? { path, weight } : one));
    return tableMoves(before, buildSelection(after, CHAIN)) / leastMoves(weights(even), weights(after));
  };
  const maglevMultiple = (path: number) => {
    const places = maglevTable(
      names.filter((name) => name !== String(path)),
      slots,
    );
    const after = places.map((place) => (place >= path - 1 ? place + 1 : place));
    return tableMoves(maglev, after) * paths;
  };
  const leavers = Array.from({ length: LEAVERS }, (_, i) => 1 + Math.floor((i * paths) / LEAVERS));
  const mean = (measureOf: (path: number) => number) =>
    leavers.reduce((sum, path) => sum + measureOf(path), 0) / LEAVERS;
  return {
    ...{ paths, slots, bytes: before.byteLength },
    buildMs: least(paths, () => buildSelection(uneven, CHAIN)),
    maglevMs: least(paths, () => maglevTable(names, slots)),
    overEqual: worstOver(counted(before, 1), weights(even)),
    overUnequal: worstOver(counted(buildSelection(uneven, CHAIN), 1), weights(uneven)),
    maglevOver: worstOver(counted(maglev, 0), weights(even)),
    leaves: mean((path) => multiple(path, 0)),
    maglevLeaves: mean(maglevMultiple),
    halved: mean((path) => multiple(path, WEIGHT / 2)),
  };
}

function members(paths: number, weightOf: () => number): Member[] {
  return Array.from({ length: paths }, (_, i) => ({ path: i + 1, weight: weightOf() }));
}

function least(paths: number, build: () => unknown): number {
  const builds = Math.max(3, Math.ceil(BUILD_PATHS / paths));
  return Math.min(...Array.from({ length: builds }, () => cpuMs(build)[1]));
}
