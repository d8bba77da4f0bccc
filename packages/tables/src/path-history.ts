// SPDX-License-Identifier: Apache-2.0
// Choices that depend on those made before: round-robin, random, least-flows. One history for each chain and gateway, in memory of whoever
// decides its flows; the same choices follow from the same seed, members and order of flows.
import { type HashKey, hashKeyToBigInt } from '@detour/core';
import { mix32 } from './rendezvous.js';
import type { Member } from './selection.js';

export const HISTORY_POLICIES = ['random', 'round-robin', 'least-flows'] as const;
export type HistoryPolicy = (typeof HISTORY_POLICIES)[number];

const GOLDEN = 0x9e3779b1;

/** The seed of a chain's history at one gateway: another one for each, and the same after every start. */
export function historySeed(hashKey: HashKey, gateway: string, chain: number): number {
  const key = hashKeyToBigInt(hashKey);
  let seed = mix32(chain + 1);
  for (const word of [key, key >> 32n]) seed = mix32(seed ^ Number(word & 0xffff_ffffn));
  for (const byte of Buffer.from(gateway)) seed = mix32(seed ^ byte);
  return seed;
}

export class PathHistory {
  private draws = 0;
  private between = '';
  /** Round-robin: flows given to each path since the paths to choose from changed. */
  private readonly given = new Map<number, number>();
  /** Least-flows: flows that each path had at the last count, and those given to it since. */
  private counted: ReadonlyMap<number, number> = new Map();
  private sinceCount = new Map<number, number>();

  constructor(private readonly seed: number) {}

  /** The next flow's path; 0 when no member has a weight. Weights count for random alone. */
  choose(policy: HistoryPolicy, members: readonly Member[]): number {
    const open = members.filter(({ weight }) => weight > 0).sort((x, y) => x.path - y.path);
    const between = open.map(({ path }) => path).join();
    if (between !== this.between) this.given.clear();
    this.between = between;
    const path = policy === 'random' ? this.draw(open) : this.least(policy, open);
    if (path === 0) return 0;
    add(this.given, path, 1);
    add(this.sinceCount, path, 1);
    return path;
  }

  /** The flow that was to take this path takes another one: a pin had it already. */
  giveBack(path: number): void {
    if (this.given.has(path)) add(this.given, path, -1);
    if (this.sinceCount.has(path)) add(this.sinceCount, path, -1);
  }

  /** Call when a count begins; what it returns takes the result: flows by path. */
  beginCount(): (flows: ReadonlyMap<number, number>) => void {
    this.sinceCount = new Map();
    const since = this.sinceCount;
    return (flows) => {
      if (since === this.sinceCount) this.counted = flows;
    };
  }

  private least(policy: Exclude<HistoryPolicy, 'random'>, open: readonly Member[]): number {
    let best = 0;
    let fewest = Number.POSITIVE_INFINITY;
    for (const { path } of open) {
      const flows =
        policy === 'round-robin'
          ? (this.given.get(path) ?? 0)
          : (this.counted.get(path) ?? 0) + (this.sinceCount.get(path) ?? 0);
      if (flows < fewest) [best, fewest] = [path, flows];
    }
    return best;
  }

  private draw(open: readonly Member[]): number {
    const total = open.reduce((sum, { weight }) => sum + weight, 0);
    if (total === 0) return 0;
    const random = (mix32(this.seed + Math.imul(++this.draws, GOLDEN)) >>> 0) / 2 ** 32;
    let rest = random * total;
    for (const { path, weight } of open) {
      rest -= weight;
      if (rest < 0) return path;
    }
    return open.at(-1)?.path ?? 0;
  }
}

function add(counts: Map<number, number>, path: number, by: number): void {
  counts.set(path, (counts.get(path) ?? 0) + by);
}
