// SPDX-License-Identifier: Apache-2.0
// What is read off the tables and the flows at one moment: over all chains, each counted by its share of the flows.
import type { NodeWorth } from '@detour/tables';
import { leastMoves, misplaced, tableMoves, worstOver } from './accounting.js';
import type { TableInForce } from './gateway-tables.js';
import type { MaglevTable } from './maglev-tables.js';
import type { SimulatedChain } from './world.js';

/** Up to so many paths a table has at least 100 slots for each (bench.md's goal holds up to there). */
export const FEW_PATHS = 100;

export interface TableSpread {
  /** Slots of the path that is most over what it is worth, minus 1: in chains of up to FEW_PATHS paths, and of more. */
  readonly overPathFew: number;
  readonly overPathMany: number;
  /** Slots that lead over a node, beside its share of its service's scores. */
  readonly overNode: number;
  /** The part of all slots that another path should have. */
  readonly misplaced: number;
  /** Plain Maglev's overPath, beside equal shares. */
  readonly maglevOverPath: number;
}

export function spreadOf(
  tables: readonly TableInForce[],
  maglevOf: (table: TableInForce) => MaglevTable,
  worths: NodeShares,
): TableSpread {
  let [overPathFew, overPathMany, overNode, maglevOverPath] = [0, 0, 0, 0];
  const misplacedBy = new Map<SimulatedChain, number>();
  for (const table of tables) {
    const { members, chain } = table;
    const { slots } = table.expanded;
    const counts = countPaths(slots, members.length, firstPath(chain));
    const weights = members.map(({ weight }) => weight);
    const over = worstOver(counts, weights);
    if (members.length <= FEW_PATHS) overPathFew = Math.max(overPathFew, over);
    else overPathMany = Math.max(overPathMany, over);
    misplacedBy.set(chain, slots.length === 0 ? 0 : misplaced(counts, weights));
    if (slots.length > 0)
      overNode = Math.max(
        overNode,
        worstNodeOver(chain, (path) => counts[path - firstPath(chain)] ?? 0, worths),
      );
    const maglev = maglevOf(table);
    const even = members.map(({ weight }) => (weight > 0 ? 1 : 0));
    const maglevCounts = countPaths(maglev.slots, members.length, firstPath(chain));
    maglevOverPath = Math.max(maglevOverPath, worstOver(maglevCounts, even));
  }
  return { overPathFew, overPathMany, overNode, misplaced: byFlows(misplacedBy), maglevOverPath };
}

/** What nodes that take new flows are worth; 0 for those that take none. */
export type NodeShares = (node: number) => number;

/** Drained nodes and those that are down take no new flows. */
export function sharesOf(
  worths: ReadonlyMap<number, NodeWorth>,
  isUp: (node: number) => boolean,
): NodeShares {
  return (node) => {
    const worth = worths.get(node);
    return worth === undefined || worth.drained || !isUp(node) ? 0 : worth.score;
  };
}

/** The most loaded node of a chain, hop by hop, beside its share of the hop's scores. */
export function worstNodeOver(
  chain: SimulatedChain,
  loadOf: (path: number) => number,
  shareOf: NodeShares,
): number {
  const hops = new Map<number, Map<number, number>>();
  for (const { number, nodes } of chain.paths) {
    const load = loadOf(number);
    for (const [hop, node] of nodes.entries()) {
      const loads = hops.get(hop) ?? new Map<number, number>();
      hops.set(hop, loads.set(node, (loads.get(node) ?? 0) + load));
    }
  }
  const overs = [...hops.values()].map((loads) =>
    worstOver([...loads.values()], [...loads.keys()].map(shareOf)),
  );
  return Math.max(...overs);
}

export interface TableChange {
  /** The part of all flows whose answer by the tables is another than before, and the part that must be. */
  readonly moved: number;
  readonly least: number;
}

export function changeOf(before: readonly TableInForce[], after: readonly TableInForce[]): TableChange {
  const moved = new Map<SimulatedChain, number>();
  const least = new Map<SimulatedChain, number>();
  for (const [i, now] of after.entries()) {
    const was = before[i];
    if (was === undefined || was.expanded.slots === now.expanded.slots) continue;
    moved.set(now.chain, tableMoves(was.expanded.slots, now.expanded.slots));
    least.set(now.chain, leastMoves(was.members.map(weightOf), now.members.map(weightOf)));
  }
  const flows = after.map(({ chain }) => chain);
  return { moved: byFlows(moved, flows), least: byFlows(least, flows) };
}

/** The same of Maglev's tables, by chain in the same order. */
export function maglevChangeOf(
  chains: readonly SimulatedChain[],
  before: readonly MaglevTable[],
  after: readonly MaglevTable[],
): TableChange {
  const moved = new Map<SimulatedChain, number>();
  const least = new Map<SimulatedChain, number>();
  for (const [i, chain] of chains.entries()) {
    const [was, now] = [before[i], after[i]];
    if (was === undefined || now === undefined) continue;
    moved.set(chain, tableMoves(was.slots, now.slots));
    least.set(chain, leastMoves(evenly(was.open, chain), evenly(now.open, chain)));
  }
  return { moved: byFlows(moved, chains), least: byFlows(least, chains) };
}

const weightOf = ({ weight }: { readonly weight: number }): number => weight;

function evenly(open: readonly number[], chain: SimulatedChain): number[] {
  const isOpen = new Set(open);
  return chain.paths.map(({ number }) => (isOpen.has(number) ? 1 : 0));
}

/** Mean over chains by their flows; a chain that is not in the map counts as 0. */
function byFlows(
  parts: ReadonlyMap<SimulatedChain, number>,
  all: Iterable<SimulatedChain> = parts.keys(),
): number {
  let [flows, sum] = [0, 0];
  for (const chain of all) {
    flows += chain.flows;
    sum += chain.flows * (parts.get(chain) ?? 0);
  }
  return flows === 0 ? 0 : sum / flows;
}

/** Path numbers of a chain are consecutive. */
function firstPath(chain: SimulatedChain): number {
  return chain.paths[0]?.number ?? 0;
}

function countPaths(slots: Uint16Array, paths: number, first: number): Uint32Array {
  const counts = new Uint32Array(paths);
  for (const path of slots) counts[path - first] = (counts[path - first] ?? 0) + 1;
  return counts;
}
