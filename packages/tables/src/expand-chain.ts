// SPDX-License-Identifier: Apache-2.0
// A chain's row and the state of its nodes → what the datapath is given. Gateways and controllers run this one function, so that
// their tables agree byte for byte.
import { createHash } from 'node:crypto';
import { AffinityKind, type ChainRow, type PathRow, SelectPolicy } from '@detour/contracts';
import { type Affinity, Fault, type FlowKey, type HashKey, selectionHash } from '@detour/core';
import type { NodeState } from './node-state.js';
import { buildSelection, type Member } from './selection.js';

/** One path of an expanded chain. */
export interface PathState {
  readonly path: number;
  readonly nodes: readonly number[];
  /** down when a node of it is down; unknown when none is down and one is unknown. A path of unknown state keeps its pinned flows. */
  readonly state: NodeState;
  /** What it had in the selection; 0: it gets no new flows. */
  readonly weight: number;
  /** Optional hops that it leaves out. */
  readonly skipped: number;
  /** Nodes of it that have not the level of the chain's flows. */
  readonly belowLevel: number;
}

/** What a chain looks like in the datapath; a pure function of row and node states, with no generation in it. */
export interface ExpandedChain {
  readonly chain: number;
  readonly affinity: Affinity;
  /** Slot → path number. Empty: no path can be chosen, and the chain's onFailure says what happens. */
  readonly slots: Uint16Array;
  /** In the order of path numbers. */
  readonly paths: readonly PathState[];
  /** No path that is up has a fresh score, so declared capacity counts: raise an alarm. */
  readonly allStale: boolean;
  /** SHA-256 of slots and path states, in hex. Equal: nothing to write, no new generation. */
  readonly fingerprint: string;
}

/** What a chain's paths are worth now: all of its expansion but the slots, and quickly made. */
export interface WeighedChain {
  readonly members: readonly Member[];
  readonly paths: readonly PathState[];
  readonly allStale: boolean;
}

const TIERS_OF_LEVEL = 256;

/** Paths that took new flows until now: what a chain with `preempt: false` goes by. */
export type InUse = ReadonlySet<number>;

const NONE_IN_USE: InUse = new Set();

/** Weighs a row that validateChains has accepted. */
export function weighChain(
  row: ChainRow,
  stateOf: (node: number) => NodeState,
  inUse: InUse = NONE_IN_USE,
): WeighedChain {
  const sorted = [...row.paths].sort((x, y) => x.number - y.number);
  const states = sorted.map((path) => pathState(path, stateOf));
  const tier = firstTier(sorted.filter((_, i) => states[i] === 'up'));
  const up = (weightOf: (path: PathRow) => number) =>
    sorted.map((path, i) => (states[i] === 'up' && tierOf(path) === tier ? weightOf(path) : 0));
  const fresh = up((path) => path.weight);
  const fallback = up((path) => path.fallbackWeight);
  const allStale = !fresh.some((weight) => weight > 0) && fallback.some((weight) => weight > 0);
  const weights = byPolicy(row, sorted, { weights: allStale ? fallback : fresh, inUse });
  const members: Member[] = sorted.map((path, i) => ({ path: path.number, weight: weights[i] ?? 0 }));
  const paths = sorted.map((path, i) => ({
    path: path.number,
    nodes: path.nodes,
    state: states[i] ?? 'unknown',
    weight: weights[i] ?? 0,
    skipped: path.skipped,
    belowLevel: path.belowLevel,
  }));
  return { members, paths, allStale };
}

/**
 * Expands a row that validateChains has accepted. `slotsOf`: where the slots come from, for who has them made elsewhere; `inUse`: as for
 * weighChain.
 */
export function expandChain(
  row: ChainRow,
  stateOf: (node: number) => NodeState,
  {
    slotsOf = buildSelection,
    inUse = NONE_IN_USE,
  }: {
    readonly slotsOf?: (members: readonly Member[], chain: number) => Uint16Array;
    readonly inUse?: InUse;
  } = {},
): ExpandedChain {
  const { members, paths, allStale } = weighChain(row, stateOf, inUse);
  const slots = slotsOf(members, row.number);
  const affinity = affinityOf(row);
  return { chain: row.number, affinity, slots, paths, allStale, fingerprint: fingerprint(slots, paths) };
}

/**
 * The path of a flow, chosen as the datapath does: slot = selectionHash mod number of slots. Null when no path can be chosen.
 * `initiatorIsB`: the flow's forward direction starts at end point b.
 */
export function choosePath(
  chain: Pick<ExpandedChain, 'slots' | 'affinity'>,
  key: FlowKey,
  { initiatorIsB, secret }: { readonly initiatorIsB: boolean; readonly secret: HashKey },
): number | null {
  if (chain.slots.length === 0) return null;
  const slot = selectionHash(key, chain.affinity, initiatorIsB, secret) % chain.slots.length;
  return chain.slots[slot] ?? null;
}

/**
 * Optional hops are left out only where nothing else is left: the least that a path that takes new flows leaves out. A score that is
 * stale, or 0, is no reason to leave one out: declared capacity counts first. Among those, the paths whose nodes have the level of the
 * chain's flows come first: a node without it takes them only while no node of its service that has it is up.
 */
function firstTier(up: readonly PathRow[]): number {
  const usable = up.filter((path) => path.weight > 0 || path.fallbackWeight > 0);
  return Math.min(...usable.map(tierOf));
}

/** Optional hops left out weigh more than all the nodes of a path together. */
function tierOf({ skipped, belowLevel }: PathRow): number {
  return skipped * TIERS_OF_LEVEL + belowLevel;
}

function pathState(path: PathRow, stateOf: (node: number) => NodeState): NodeState {
  const states = path.nodes.map(stateOf);
  if (states.includes('down')) return 'down';
  return states.includes('unknown') ? 'unknown' : 'up';
}

/**
 * priority: the weight is the tier, and the paths of the tier in use share evenly: the best one that is up, or with `preempt: false` that
 * of the paths in use while one of these is up. local: the paths over the fewest hosts, by weight. Where a gateway's history decides, the
 * slots serve flows that leave a dead path: by weight for random, evenly otherwise.
 */
function byPolicy(
  { select, keepsTier }: ChainRow,
  paths: readonly PathRow[],
  { weights, inUse }: { readonly weights: readonly number[]; readonly inUse: InUse },
): readonly number[] {
  switch (select) {
    case SelectPolicy.WEIGHTED:
    case SelectPolicy.RANDOM:
      return weights;
    case SelectPolicy.ROUND_ROBIN:
    case SelectPolicy.LEAST_FLOWS:
      return weights.map((weight) => (weight > 0 ? 1 : 0));
    case SelectPolicy.PRIORITY: {
      const used = weights.filter((_, i) => inUse.has(paths[i]?.number ?? 0));
      const kept = keepsTier ? Math.max(0, ...used) : 0;
      const tier = kept > 0 ? kept : Math.max(0, ...weights);
      return weights.map((weight) => (weight > 0 && weight === tier ? 1 : 0));
    }
    case SelectPolicy.LOCAL: {
      const fewest = Math.min(...paths.filter((_, i) => (weights[i] ?? 0) > 0).map(({ hosts }) => hosts));
      return weights.map((weight, i) => (paths[i]?.hosts === fewest ? weight : 0));
    }
    case SelectPolicy.UNSPECIFIED:
      throw new Fault('invalid', 'a chain row without a select policy: validateChains refuses it');
  }
}

const AFFINITY_OF: Readonly<Record<AffinityKind, Affinity>> = {
  [AffinityKind.UNSPECIFIED]: '5-tuple',
  [AffinityKind.FIVE_TUPLE]: '5-tuple',
  [AffinityKind.THREE_TUPLE]: '3-tuple',
  [AffinityKind.TWO_TUPLE]: '2-tuple',
  [AffinityKind.SOURCE]: 'source',
};

export function affinityOf({ affinity }: ChainRow): Affinity {
  return AFFINITY_OF[affinity];
}

function fingerprint(slots: Uint16Array, paths: readonly PathState[]): string {
  const bytes = new DataView(new ArrayBuffer(2 * slots.length));
  for (const [i, path] of slots.entries()) bytes.setUint16(2 * i, path, true);
  const hash = createHash('sha256').update(bytes);
  for (const { path, state, nodes } of paths) hash.update(`|${path}=${state}:${nodes.join(',')}`);
  return hash.digest('hex');
}
