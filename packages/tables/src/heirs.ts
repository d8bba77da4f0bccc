// SPDX-License-Identifier: Apache-2.0
// By which path the flows of a path that is down go on: the one that keeps most of its nodes, so that a stateful node which is still up goes
// on seeing the connections that it knows. Pure, the same on gateways and controllers.
import type { PathState } from './expand-chain.js';
import { cost, draw, slotSeed, toContender } from './rendezvous.js';

/**
 * Path number of the heir, by number of each path that is down and has one. A path whose nodes are in no other path that takes new flows
 * has none: its flows are spread by the hash. Of several that keep as many nodes: the one that leaves out fewest optional hops, has fewest nodes below the chain's level, then by a
 * draw weighted as new flows are, so that the paths that one dead node was on do not all go to one.
 */
export function heirsOf(chain: number, paths: readonly PathState[]): ReadonlyMap<number, number> {
  const heirs = new Map<number, number>();
  const open = paths.filter(({ state, weight }) => state === 'up' && weight > 0);
  for (const dead of paths) {
    if (dead.state !== 'down' || dead.nodes.length < 2) continue;
    let best: { readonly path: number; readonly rank: readonly number[] } | null = null;
    for (const { path, nodes, weight, skipped, belowLevel } of open) {
      const kept = nodes.filter((node) => dead.nodes.includes(node)).length;
      if (kept === 0) continue;
      const { seed, inverseWeight } = toContender(chain, path, weight);
      const rank = [-kept, skipped, belowLevel, cost(draw(seed, slotSeed(dead.path)), inverseWeight), path];
      if (best === null || isLess(rank, best.rank)) best = { path, rank };
    }
    if (best !== null) heirs.set(dead.path, best.path);
  }
  return heirs;
}

/** Compares element by element. */
function isLess(one: readonly number[], other: readonly number[]): boolean {
  for (const [i, value] of one.entries()) {
    const against = other[i] ?? value;
    if (value !== against) return value < against;
  }
  return false;
}
