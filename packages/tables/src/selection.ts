// SPDX-License-Identifier: Apache-2.0
// A chain's selection table: slot → path number, each path with exactly its share of the slots, made from members and weights alone.
import { abi } from '@detour/contracts';
import { Fault } from '@detour/core';
import { meetQuotas, slotQuotas } from './slot-quotas.js';
import { raceSlots } from './slot-race.js';
import { toWalk } from './slot-walk.js';

/** One path of a chain and what it is worth: a non-negative integer, relative to the other members. */
export interface Member {
  readonly path: number;
  readonly weight: number;
}

/** Prime. */
export const MAX_SLOTS = abi.DetourLimit.DT_MAX_SLOTS;
/** Path numbers fit a slot; 0 means none. */
const MAX_PATH = abi.DetourLimit.DT_MAX_PATHS - 1;
const MAX_WEIGHT = 2 ** 31 - 1;

/** Primes, each at least 100 slots for each of 16, 32, 64 … paths. In steps, so that one path more seldom changes the number. */
const SLOT_COUNTS = [
  [16, 1_601],
  [32, 3_203],
  [64, 6_421],
  [128, 12_809],
  [256, 25_601],
  [512, 51_203],
] as const;

/** Number of slots of a chain with so many members, up or not: a path that goes down must not change it. */
export function slotCount(members: number): number {
  return SLOT_COUNTS.find(([paths]) => members <= paths)?.[1] ?? MAX_SLOTS;
}

/**
 * Slot → path number. Same members and weights, in whatever order: same bytes, on every machine.
 * Every member counts for the number of slots; weight 0 gets none. All weights 0: an empty table.
 * @throws Fault 'invalid' for a path number or weight out of bounds, or a path that occurs twice.
 */
export function buildSelection(members: readonly Member[], chain: number): Uint16Array {
  const why = memberFault(members);
  if (why !== null) throw new Fault('invalid', `selection of chain ${chain}: ${why}`);
  const live = members.filter(({ weight }) => weight > 0).sort((x, y) => x.path - y.path);
  const [first, second] = live;
  if (first === undefined) return new Uint16Array(0);
  const count = slotCount(members.length);
  if (second === undefined) return new Uint16Array(count).fill(first.path);
  const walks = live.map(({ path, weight }) => toWalk(chain, path, weight, count));
  const race = raceSlots(walks, count);
  const weights = live.map(({ weight }) => weight);
  meetQuotas(race, walks, slotQuotas(weights, count));
  return race.owners.map((index) => live[index]?.path ?? 0);
}

/** What is wrong with a member list, or null. */
export function memberFault(members: readonly Member[]): string | null {
  const seen = new Set<number>();
  for (const { path, weight } of members) {
    if (!Number.isInteger(path) || path < 1 || path > MAX_PATH) return `path ${path} is not 1..${MAX_PATH}`;
    if (seen.has(path)) return `path ${path} occurs twice`;
    if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT)
      return `weight ${weight} of path ${path} is no integer in 0..${MAX_WEIGHT}`;
    seen.add(path);
  }
  return null;
}
