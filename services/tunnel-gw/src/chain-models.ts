// SPDX-License-Identifier: Apache-2.0
// Chains as they are published: a controller's row, this gateway's health applied by packages/tables, and a generation that moves whenever
// what flows depend on has moved.
import { type ChainRow, OnFailure, OnNodeDown, OnRuleChange } from '@detour/contracts';
import { expandChain, type NodeState } from '@detour/tables';
import type { Row } from './bank.js';
import type { ChainModel } from './model.js';
import { chainRows } from './rows.js';

interface Entry {
  readonly row: ChainRow;
  readonly states: string;
  readonly model: ChainModel;
  readonly rows: readonly Row[];
}

export class ChainModels {
  private entries = new Map<number, Entry>();
  private models: ReadonlyMap<number, ChainModel> = new Map();

  /** `firstGens`: generations that a predecessor left in the live bank; counting goes on from there. */
  constructor(private readonly firstGens: ReadonlyMap<number, number>) {}

  /** Brings the chains in step with rows and health; what did not change keeps its objects, so staging skips it. */
  update(chains: readonly ChainRow[], stateOf: (node: number) => NodeState): void {
    const next = new Map<number, Entry>();
    for (const row of chains) {
      const states = row.paths.flatMap((path) => path.nodes.map(stateOf)).join();
      const held = this.entries.get(row.number);
      if (held !== undefined && held.row === row && held.states === states) next.set(row.number, held);
      else next.set(row.number, this.expand(row, states, stateOf));
    }
    this.entries = next;
    this.models = new Map([...next].map(([number, entry]) => [number, entry.model]));
  }

  all(): ReadonlyMap<number, ChainModel> {
    return this.models;
  }

  get(number: number): ChainModel | undefined {
    return this.entries.get(number)?.model;
  }

  *rows(): Iterable<Row> {
    for (const entry of this.entries.values()) yield* entry.rows;
  }

  private expand(row: ChainRow, states: string, stateOf: (node: number) => NodeState): Entry {
    const expanded = expandChain(row, stateOf);
    const held = this.entries.get(row.number)?.model;
    const gen =
      held?.fingerprint === expanded.fingerprint
        ? held.gen
        : nextGen(held?.gen ?? this.firstGens.get(row.number) ?? 0);
    const model: ChainModel = {
      number: row.number,
      name: row.name,
      onFailure:
        row.onFailure === OnFailure.BYPASS
          ? 'bypass'
          : row.onFailure === OnFailure.BACKUP
            ? 'backup'
            : 'drop',
      backup: row.backup,
      onNodeDown: row.onNodeDown === OnNodeDown.KEEP ? 'keep' : 'rebalance',
      onRuleChange: row.onRuleChange === OnRuleChange.KEEP ? 'keep' : 'revalidate',
      affinity: expanded.affinity,
      slots: expanded.slots,
      paths: expanded.paths.map((path) => ({
        number: path.path,
        nodes: path.nodes,
        up: path.state !== 'down',
        weight: path.weight,
      })),
      gen,
      idleMs: { tcp: Number(row.idleTcpMs), udp: Number(row.idleUdpMs), other: Number(row.idleOtherMs) },
      allStale: expanded.allStale,
      fingerprint: expanded.fingerprint,
    };
    return { row, states, model, rows: chainRows(model) };
  }
}

/** 16 bits; 0 is a record's that was never validated. */
function nextGen(gen: number): number {
  return gen >= 0xffff ? 1 : gen + 1;
}
