// SPDX-License-Identifier: Apache-2.0
// Chains as they are published: a controller's row, this gateway's health applied by packages/tables, and a generation that moves whenever
// what flows depend on has moved. A version is drafted first and counts only when its rows are live.
import { type ChainRow, OnFailure, OnNodeDown, OnRuleChange, SelectPolicy } from '@detour/contracts';
import { Fault } from '@detour/core';
import {
  affinityOf,
  expandChain,
  type HistoryPolicy,
  heirsOf,
  type InUse,
  type NodeState,
  type WeighedChain,
  weighChain,
} from '@detour/tables';
import type { Row } from './bank.js';
import { chainRows } from './chain-rows.js';
import type { ChainModel, Decides } from './model.js';
import { SlotBook, type WantedSlots } from './slot-book.js';

interface Entry {
  readonly row: ChainRow;
  readonly states: string;
  /** Path states are new, slots are not yet: the table may name paths that are down, which the datapath steps over. */
  readonly due: WantedSlots | null;
  readonly model: ChainModel;
  readonly rows: readonly Row[];
  readonly inUse: InUse;
}

/** A version that is not in force yet. */
export interface ChainDraft {
  readonly entries: ReadonlyMap<number, Entry>;
  readonly rows: readonly Row[];
  /** Chains that have their path states and still the slots of before: once these are built, another draft should follow. */
  readonly due: readonly WantedSlots[];
}

type StateOf = (node: number) => NodeState;

export class ChainModels {
  private entries: ReadonlyMap<number, Entry> = new Map();
  private models: ReadonlyMap<number, ChainModel> = new Map();
  /** The last generation that each chain number ever had: also a chain that goes and comes back counts on. */
  private readonly gens: Map<number, number>;

  /**
   * `firstGens`: generations that a predecessor left in the live bank; counting goes on from there. `firstInUse`: paths that its slots
   * name, so that a restart is no reason for new flows to return to a better tier.
   */
  constructor(
    firstGens: ReadonlyMap<number, number>,
    private readonly slots = new SlotBook(),
    private readonly firstInUse: (chain: number) => InUse = () => new Set(),
  ) {
    this.gens = new Map(firstGens);
  }

  /** Slots without which no draft can be made: of chains that are new, or have other paths than before. */
  lacking(chains: readonly ChainRow[], stateOf: StateOf): WantedSlots[] {
    return chains.flatMap((row) => {
      if (this.entries.get(row.number)?.row === row) return [];
      const wanted = { chain: row.number, members: weighChain(row, stateOf, this.inUse(row)).members };
      return this.slots.now(wanted) === null && this.slots.older(wanted) === null ? [wanted] : [];
    });
  }

  /**
   * The chains as rows and health would have them; what did not change keeps its objects, so staging skips it.
   * @throws Fault `unavailable` when slots are lacking.
   */
  draft(
    chains: readonly ChainRow[],
    stateOf: StateOf,
    decidesOf: (nodes: readonly number[]) => Decides = () => 'opening',
  ): ChainDraft {
    const entries = new Map<number, Entry>();
    for (const row of chains) {
      const decides = historyOf(row) === null ? decidesOf(row.paths.flatMap(({ nodes }) => nodes)) : 'none';
      const states = row.paths.flatMap((path) => path.nodes.map(stateOf)).join();
      const held = this.entries.get(row.number);
      const unchanged = held?.row === row && held.states === states && held.model.decides === decides;
      if (unchanged && (held.due === null || this.slots.now(held.due) === null))
        entries.set(row.number, held);
      else entries.set(row.number, this.make(row, states, { stateOf, decides }));
    }
    const all = [...entries.values()];
    const due = all.flatMap((entry) => (entry.due === null ? [] : [entry.due]));
    return { entries, rows: all.flatMap((entry) => entry.rows), due };
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

  private make(
    row: ChainRow,
    states: string,
    { stateOf, decides }: { readonly stateOf: StateOf; readonly decides: Decides },
  ): Entry {
    const inUse = this.inUse(row);
    const weighed = weighChain(row, stateOf, inUse);
    const wanted = { chain: row.number, members: weighed.members };
    const exact = this.slots.now(wanted);
    const held = this.entries.get(row.number);
    if (exact !== null) {
      const { slots, fingerprint } = expandChain(row, stateOf, { slotsOf: () => exact, inUse });
      const same = held?.model.fingerprint === fingerprint;
      const gen = same ? held.model.gen : this.nextGen(row);
      const kept = same ? held.model.slots : slots;
      const model = { ...modelOf(row, weighed), slots: kept, gen, fingerprint, decides };
      return {
        row,
        states,
        due: null,
        model,
        rows: rowsOf(model, held),
        inUse: nextInUse(row, weighed, inUse),
      };
    }
    const older = (held?.row === row ? held.model.slots : null) ?? this.slots.older(wanted);
    if (older === null) throw new Fault('unavailable', `the slots of chain ${row.name} are not built yet`);
    // The fingerprint is of no whole expansion, so whatever follows has a generation of its own
    const model = {
      ...modelOf(row, weighed),
      slots: older,
      gen: this.nextGen(row),
      fingerprint: '',
      decides,
    };
    return {
      row,
      states,
      due: wanted,
      model,
      rows: rowsOf(model, held),
      inUse: nextInUse(row, weighed, inUse),
    };
  }

  /** Only a chain that keeps its tier has a use for it. */
  private inUse({ number, keepsTier }: ChainRow): InUse {
    return keepsTier ? (this.entries.get(number)?.inUse ?? this.firstInUse(number)) : NOTHING_IN_USE;
  }

  /** 16 bits; 0 is a record's that was never validated. */
  private nextGen({ number }: ChainRow): number {
    const gen = this.gens.get(number) ?? 0;
    return gen >= 0xffff ? 1 : gen + 1;
  }
}

function modelOf(
  row: ChainRow,
  { paths, allStale }: WeighedChain,
): Omit<ChainModel, 'slots' | 'gen' | 'fingerprint' | 'decides'> {
  const heirs = heirsOf(row.number, paths);
  return {
    number: row.number,
    name: row.name,
    onFailure: ON_FAILURE[row.onFailure],
    backup: row.backup,
    onNodeDown: row.onNodeDown === OnNodeDown.KEEP ? 'keep' : 'rebalance',
    onRuleChange: row.onRuleChange === OnRuleChange.KEEP ? 'keep' : 'revalidate',
    affinity: affinityOf(row),
    mss: row.mss,
    paths: paths.map(({ path, nodes, state, weight, skipped, belowLevel }) => ({
      number: path,
      nodes,
      up: state !== 'down',
      weight,
      skipped,
      belowLevel,
      heir: heirs.get(path) ?? 0,
    })),
    idleMs: { tcp: Number(row.idleTcpMs), udp: Number(row.idleUdpMs), other: Number(row.idleOtherMs) },
    allStale,
    history: historyOf(row),
    keepsTier: row.keepsTier,
  };
}

const NOTHING_IN_USE: InUse = new Set();

/**
 * Paths that take new flows now. What was in use stays so while nothing is, and while a better path was never heard of: at a start nodes come
 * up one after the other, and the first is not the one to stay with.
 */
function nextInUse(row: ChainRow, { paths }: WeighedChain, before: InUse): InUse {
  if (!row.keepsTier) return NOTHING_IN_USE;
  const worth = new Map(row.paths.map(({ number, weight }) => [number, weight]));
  const open = paths.filter(({ weight }) => weight > 0);
  const tier = Math.max(0, ...open.map(({ path }) => worth.get(path) ?? 0));
  const isAwaited = paths.some(({ path, state }) => state === 'unknown' && (worth.get(path) ?? 0) > tier);
  return open.length === 0 || isAwaited ? before : new Set(open.map(({ path }) => path));
}

function historyOf({ select }: ChainRow): HistoryPolicy | null {
  switch (select) {
    case SelectPolicy.RANDOM:
      return 'random';
    case SelectPolicy.ROUND_ROBIN:
      return 'round-robin';
    case SelectPolicy.LEAST_FLOWS:
      return 'least-flows';
    default:
      return null;
  }
}

/** The same slots are the same row: staging need not compare them. */
function rowsOf(model: ChainModel, held: Entry | undefined): Row[] {
  const rows = chainRows(model);
  if (held?.model.slots !== model.slots) return rows;
  const selection = held.rows.find((row) => row.table === 'selections');
  return rows.map((row) => (row.table === 'selections' ? (selection ?? row) : row));
}

const ON_FAILURE: Readonly<Record<OnFailure, ChainModel['onFailure']>> = {
  [OnFailure.UNSPECIFIED]: 'drop',
  [OnFailure.DROP]: 'drop',
  [OnFailure.BYPASS]: 'bypass',
  [OnFailure.BACKUP]: 'backup',
};
