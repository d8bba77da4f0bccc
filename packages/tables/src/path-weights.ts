// SPDX-License-Identifier: Apache-2.0
// From nodes' scores, capacities and drains to the integer weights of paths, before health: health is applied by expandChain,
// on the gateway too, so that a node that dies is left with no controller alive.
import type { PathRow } from '@detour/contracts';
import { fillPaths } from './fill-paths.js';

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
  /** On how many hosts its nodes are. */
  readonly hosts: number;
}

/**
 * The rows of one chain's paths.
 *
 * weighted: a path is worth what it carries when the chain's paths are filled together (fillPaths), each at the pace of the product of
 * its nodes' scores, until a node carries what it is worth. Where every node of a hop meets every node of the next, nodes so get exactly
 * their share of their service; where they do not, a node that several paths share is counted once (PSEL-10, ADR 0023). Paths that
 * leave out more optional hops are filled by themselves: they take flows only when the others cannot.
 * priority: a path's tier is the least of its nodes' declared capacities (scores move with load, and a tier that moved with load would
 * swing all new flows to and fro); a node whose score is 0 takes no new flows there either.
 *
 * Weights are scaled so that the best path of those that leave out as much has 1,000; what is worth anything has at least 1.
 * fallbackWeight takes a node's capacity where its score is 0; it counts when no path that is up has a weight (all stale).
 */
export function weighPaths(
  paths: readonly PathNodes[],
  {
    select,
    worthOf,
  }: { readonly select: 'weighted' | 'priority'; readonly worthOf: (node: number) => NodeWorth },
): PathRow[] {
  const scoreOf = (node: number) => bounded(worthOf(node).score);
  const capacityOf = (node: number) => bounded(worthOf(node).capacity);
  const isStale = ({ nodes }: PathNodes) => nodes.some((node) => scoreOf(node) === 0);
  const isDrained = ({ nodes }: PathNodes) => nodes.some((node) => worthOf(node).drained);
  const tierOf = ({ nodes }: PathNodes) => least(nodes.map(capacityOf));
  const carried = (nodeWorth: (node: number) => number) => {
    const most = Math.max(...paths.flatMap(({ nodes }) => nodes.map(nodeWorth)));
    const partOf = (node: number) => nodeWorth(node) / most; // products of eight scores stay within doubles
    const paces = paths.map((path) => (most === 0 || isDrained(path) ? 0 : product(path.nodes.map(partOf))));
    return weightsOf(paths, paces, partOf);
  };
  const tiers = (value: (path: PathNodes) => number) =>
    paths.map((path) => (isDrained(path) ? 0 : scaled(value(path), Math.max(...paths.map(value)))));
  const weights =
    select === 'weighted' ? carried(scoreOf) : tiers((path) => (isStale(path) ? 0 : tierOf(path)));
  const fallbacks =
    select === 'weighted' ? carried((node) => scoreOf(node) || capacityOf(node)) : tiers(tierOf);
  return paths.map((path, i) => ({
    number: path.number,
    nodes: [...path.nodes],
    skipped: path.skipped,
    belowLevel: path.belowLevel,
    hosts: path.hosts,
    weight: weights[i] ?? 0,
    fallbackWeight: fallbacks[i] ?? 0,
    drained: isDrained(path),
  }));
}

/** Fills the paths together that leave out equally many hops and have equally many nodes below the level: one set is in use at a time. Each is scaled by itself. */
function weightsOf(
  paths: readonly PathNodes[],
  paces: readonly number[],
  worthOf: (node: number) => number,
): number[] {
  const weights = paths.map(() => 0);
  const setOf = ({ skipped, belowLevel }: PathNodes) => `${skipped} ${belowLevel}`;
  for (const set of new Set(paths.map(setOf))) {
    const places = [...paths.entries()].flatMap(([at, path]) => (setOf(path) === set ? [at] : []));
    const values = fillPaths(
      places.map((at) => ({ nodes: paths[at]?.nodes ?? [], pace: paces[at] ?? 0 })),
      worthOf,
    );
    const best = Math.max(0, ...values);
    for (const [i, at] of places.entries()) weights[at] = scaled(values[i] ?? 0, best);
  }
  return weights;
}

function product(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((all, value) => all * value, 1);
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
