// SPDX-License-Identifier: Apache-2.0
// From nodes' scores, capacities and drains to the integer weights of paths, before health: health is applied by expandChain,
// on the gateway too, so that a node that dies is left with no controller alive.
import type { PathRow } from '@detour/contracts';

/** The largest weight. Shares are exact to a thousandth of the best path's. */
export const MAX_PATH_WEIGHT = 1_000;

/** What is known of a node's worth. */
export interface NodeWorth {
  /** As published; 0 when stale. In the unit of capacity. */
  readonly score: number;
  /** Declared, relative. */
  readonly capacity: number;
  readonly drained: boolean;
}

/** A path before it has weights: its number and its nodes in forward order. */
export interface PathNodes {
  readonly number: number;
  readonly nodes: readonly number[];
  /** Optional hops that it leaves out. */
  readonly skipped: number;
  /** Nodes of it that have not the level of the chain's flows. */
  readonly belowLevel: number;
}

/**
 * The rows of one chain's paths.
 *
 * weighted: a path is worth the least of its nodes' scores. priority: a path's tier is the least of its nodes' declared capacities
 * (scores move with load, and a tier that moved with load would swing all new flows to and fro); a node whose score is 0 takes no new
 * flows there either. Weights are scaled so that the best path of the chain has 1,000; what is worth anything has at least 1.
 *
 * fallbackWeight takes a node's capacity where its score is 0; it counts when no path that is up has a weight (all stale).
 * Nodes that two paths share are counted in each: no correction is made for them here (PSEL-10).
 */
export function weighPaths(
  paths: readonly PathNodes[],
  {
    select,
    worthOf,
  }: { readonly select: 'weighted' | 'priority'; readonly worthOf: (node: number) => NodeWorth },
): PathRow[] {
  const values = paths.map(({ number, nodes, skipped, belowLevel }) => {
    const worths = nodes.map(worthOf);
    const scores = worths.map((worth) => bounded(worth.score));
    const capacities = worths.map((worth) => bounded(worth.capacity));
    const stale = scores.some((score) => score === 0);
    const fallback = scores.map((score, i) =>
      select === 'weighted' && score > 0 ? score : (capacities[i] ?? 0),
    );
    return {
      number,
      nodes: [...nodes],
      skipped,
      belowLevel,
      value: stale ? 0 : least(select === 'weighted' ? scores : capacities),
      fallback: least(fallback),
      drained: worths.some((worth) => worth.drained),
    };
  });
  const bestValue = Math.max(0, ...values.map(({ value }) => value));
  const bestFallback = Math.max(0, ...values.map(({ fallback }) => fallback));
  return values.map(({ number, nodes, skipped, belowLevel, value, fallback, drained }) => ({
    number,
    nodes,
    skipped,
    belowLevel,
    weight: drained ? 0 : scaled(value, bestValue),
    fallbackWeight: drained ? 0 : scaled(fallback, bestFallback),
    drained,
  }));
}

function scaled(value: number, best: number): number {
  return value === 0 ? 0 : Math.max(1, Math.round(MAX_PATH_WEIGHT * (value / best)));
}

/** Garbage is worth nothing; scoring has refused and reported it before. */
function bounded(value: number): number {
  return Number.isFinite(value) && value > 0 ? value : 0;
}

function least(values: readonly number[]): number {
  return values.length === 0 ? 0 : Math.min(...values);
}
