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
  readonly model: ChainModel;
  readonly rows: readonly Row[];
}

/** A version that is not in force yet. */
export interface ChainDraft {
  readonly entries: ReadonlyMap<number, Entry>;
  readonly rows: readonly Row[];
}

export class ChainModels {
  private entries: ReadonlyMap<number, Entry> = new Map();
  private models: ReadonlyMap<number, ChainModel> = new Map();
  /** The last generation that each chain number ever had: also a chain that goes and comes back counts on. */
  private readonly gens: Map<number, number>;

  /** `firstGens`: generations that a predecessor left in the live bank; counting goes on from there. */
  constructor(firstGens: ReadonlyMap<number, number>) {
    this.gens = new Map(firstGens);
  }

  /** The chains as rows and health would have them; what did not change keeps its objects, so staging skips it. */
  draft(chains: readonly ChainRow[], stateOf: (node: number) => NodeState): ChainDraft {
    const entries = new Map<number, Entry>();
    for (const row of chains) {
      const states = row.paths.flatMap((path) => path.nodes.map(stateOf)).join();
      const held = this.entries.get(row.number);
      const same = held !== undefined && held.row === row && held.states === states;
      entries.set(row.number, same ? held : this.expand(row, states, stateOf));
    }
    return { entries, rows: [...entries.values()].flatMap((entry) => entry.rows) };
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
    return { row, states, model, rows: chainRows(model) };
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
