// SPDX-License-Identifier: Apache-2.0
// Chains as they are published: a controller's row, this gateway's health applied by packages/tables, and a generation that moves whenever
// what flows depend on has moved. A version is drafted first and counts only when its rows are live.
import { type ChainRow, OnFailure, OnNodeDown, OnRuleChange } from '@detour/contracts';
import { expandChain, type NodeState } from '@detour/tables';
import type { Row } from './bank.js';
import { chainRows } from './chain-rows.js';
import type { ChainModel } from './model.js';

interface Entry {
  readonly row: ChainRow;
  readonly states: string;
  /** Path states are new, slots are not yet: the table may name paths that are down, which the datapath steps over. */
  readonly quick: boolean;
  readonly model: ChainModel;
  readonly rows: readonly Row[];
}

/** A version that is not in force yet. */
export interface ChainDraft {
  readonly entries: ReadonlyMap<number, Entry>;
  readonly rows: readonly Row[];
  /** Some chain has its path states and still the slots of before: a whole draft should follow soon. */
  readonly quick: boolean;
}

/** With more paths than this, making the slots anew takes longer than a failover may (16 paths: about 1 ms; 128: 30; 600: 600). */
const QUICK_ABOVE_PATHS = 16;

export class ChainModels {
  private entries: ReadonlyMap<number, Entry> = new Map();
  private models: ReadonlyMap<number, ChainModel> = new Map();
  /** The last generation that each chain number ever had: also a chain that goes and comes back counts on. */
  private readonly gens: Map<number, number>;

  /** `firstGens`: generations that a predecessor left in the live bank; counting goes on from there. */
  constructor(firstGens: ReadonlyMap<number, number>) {
    this.gens = new Map(firstGens);
  }

  /**
   * The chains as rows and health would have them; what did not change keeps its objects, so staging skips it. `quick`: where only health
   * changed in a chain of many paths, its slots stay as they are for now.
   */
  draft(
    chains: readonly ChainRow[],
    stateOf: (node: number) => NodeState,
    { quick }: { readonly quick: boolean } = { quick: false },
  ): ChainDraft {
    const entries = new Map<number, Entry>();
    for (const row of chains) {
      const states = row.paths.flatMap((path) => path.nodes.map(stateOf)).join();
      const held = this.entries.get(row.number);
      const unchanged = held !== undefined && held.row === row && held.states === states;
      if (unchanged && (quick || !held.quick)) entries.set(row.number, held);
      else if (quick && held?.row === row && row.paths.length > QUICK_ABOVE_PATHS)
        entries.set(row.number, this.restate(held, states, stateOf));
      else entries.set(row.number, this.expand(row, states, stateOf));
    }
    const all = [...entries.values()];
    return { entries, rows: all.flatMap((entry) => entry.rows), quick: all.some((entry) => entry.quick) };
  }

  /** The draft's rows are live. */
  commit(draft: ChainDraft): void {
    this.entries = draft.entries;
    this.models = new Map([...draft.entries].map(([number, entry]) => [number, entry.model]));
    for (const [number, { gen }] of this.models) this.gens.set(number, gen);
  }

  all(): ReadonlyMap<number, ChainModel> {
    return this.models;
  }

  get(number: number): ChainModel | undefined {
    return this.entries.get(number)?.model;
  }

  private expand(row: ChainRow, states: string, stateOf: (node: number) => NodeState): Entry {
    const expanded = expandChain(row, stateOf);
    const held = this.entries.get(row.number)?.model;
    const unchanged = held?.fingerprint === expanded.fingerprint;
    const model: ChainModel = {
      number: row.number,
      name: row.name,
      onFailure: ON_FAILURE[row.onFailure],
      backup: row.backup,
      onNodeDown: row.onNodeDown === OnNodeDown.KEEP ? 'keep' : 'rebalance',
      onRuleChange: row.onRuleChange === OnRuleChange.KEEP ? 'keep' : 'revalidate',
      affinity: expanded.affinity,
      slots: unchanged ? held.slots : expanded.slots,
      paths: expanded.paths.map((path) => ({
        number: path.path,
        nodes: path.nodes,
        up: path.state !== 'down',
        weight: path.weight,
      })),
      gen: unchanged ? held.gen : nextGen(this.gens.get(row.number) ?? 0),
      idleMs: { tcp: Number(row.idleTcpMs), udp: Number(row.idleUdpMs), other: Number(row.idleOtherMs) },
      allStale: expanded.allStale,
      fingerprint: expanded.fingerprint,
    };
    return { row, states, quick: false, model, rows: chainRows(model) };
  }

  private restate(held: Entry, states: string, stateOf: (node: number) => NodeState): Entry {
    const model: ChainModel = {
      ...held.model,
      paths: held.model.paths.map((path) => ({
        ...path,
        up: path.nodes.every((node) => stateOf(node) !== 'down'),
      })),
      gen: nextGen(this.gens.get(held.row.number) ?? 0),
      fingerprint: '', // of no whole expansion
    };
    const selection = held.rows.filter((row) => row.table === 'selections');
    const rest = chainRows(model).filter((row) => row.table !== 'selections');
    return { row: held.row, states, quick: true, model, rows: [...rest, ...selection] };
  }
}

const ON_FAILURE: Readonly<Record<OnFailure, ChainModel['onFailure']>> = {
  [OnFailure.UNSPECIFIED]: 'drop',
  [OnFailure.DROP]: 'drop',
  [OnFailure.BYPASS]: 'bypass',
  [OnFailure.BACKUP]: 'backup',
};

/** 16 bits; 0 is a record's that was never validated. */
function nextGen(gen: number): number {
  return gen >= 0xffff ? 1 : gen + 1;
}
