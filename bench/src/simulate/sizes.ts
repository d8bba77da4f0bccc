// SPDX-License-Identifier: Apache-2.0
// How large a simulated day is: chains by the number of nodes at each hop, racks, flows, and what happens when.

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What befalls racks or single nodes, from one time of the day to another. */
export interface Mishap {
  readonly what: 'down' | 'drain';
  /** As it is named in the plot; empty: not at all. */
  readonly name: string;
  /** Rack numbers from 0. */
  readonly racks: readonly number[];
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Size {
  readonly name: string;
  /** A chain each: how many nodes the service of each hop has. Its paths are all their combinations. */
  readonly chains: readonly (readonly number[])[];
  readonly racks: number;
  readonly flows: number;
  /** How long a flow lasts in the mean. */
  readonly flowLifeMs: number;
  /** How long the simulation goes, and how often tables follow the scores of that moment. */
  readonly endMs: number;
  readonly stepMs: number;
  readonly mishaps: readonly Mishap[];
  /** Single nodes go down one after the other, this often, each for as long. */
  readonly nodeDownEveryMs: number;
  readonly nodeDownMs: number;
}

const at = (hours: number, minutes: number): number => hours * HOUR_MS + minutes * MINUTE_MS;

const times = (count: number, chain: readonly number[]): (readonly number[])[] =>
  Array.from({ length: count }, () => chain);

/** 1,000 nodes, 10,000 paths, 10 million flows, a day. */
const FULL: Size = {
  name: 'full',
  chains: [...times(8, [32, 32]), [24, 24], [8, 8, 8], [16, 16], [200], [100], [10, 10], [50], [10], [4]],
  racks: 50,
  flows: 10_000_000,
  flowLifeMs: 6 * HOUR_MS,
  endMs: 24 * HOUR_MS,
  stepMs: 30 * MINUTE_MS,
  mishaps: [
    { what: 'down', name: 'a rack', racks: [7], fromMs: at(3, 10), toMs: at(4, 40) },
    { what: 'down', name: 'five racks', racks: [10, 11, 12, 13, 14], fromMs: at(9, 25), toMs: at(12, 10) },
    { what: 'down', name: 'a rack flaps', racks: [21], fromMs: at(15, 40), toMs: at(15, 45) },
    { what: 'down', name: '', racks: [21], fromMs: at(15, 50), toMs: at(16, 10) },
    { what: 'drain', name: 'a rack is drained', racks: [30], fromMs: at(18, 5), toMs: at(21, 5) },
  ],
  nodeDownEveryMs: 65 * MINUTE_MS,
  nodeDownMs: 40 * MINUTE_MS,
};

/** Some seconds. */
const SMALL: Size = {
  ...FULL,
  name: 'small',
  chains: [[8, 8], [4, 4, 4], [30], [4]],
  racks: 10,
  flows: 200_000,
  mishaps: [
    { what: 'down', name: 'a rack', racks: [1], fromMs: at(3, 10), toMs: at(4, 40) },
    { what: 'down', name: 'two racks', racks: [3, 4], fromMs: at(9, 25), toMs: at(12, 10) },
    { what: 'drain', name: 'a rack is drained', racks: [6], fromMs: at(18, 5), toMs: at(21, 5) },
  ],
};

/** For tests: a few hours of a few nodes. */
const TINY: Size = {
  ...SMALL,
  name: 'tiny',
  chains: [[3, 3], [2, 2, 2], [6], [2]],
  racks: 5,
  flows: 4_000,
  flowLifeMs: 2 * HOUR_MS,
  endMs: 4 * HOUR_MS,
  mishaps: [
    { what: 'down', name: 'a rack', racks: [1], fromMs: at(0, 50), toMs: at(1, 40) },
    { what: 'drain', name: 'a rack is drained', racks: [3], fromMs: at(2, 5), toMs: at(3, 5) },
  ],
};

export const SIZES = { full: FULL, small: SMALL, tiny: TINY } as const;
