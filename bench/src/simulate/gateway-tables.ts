// SPDX-License-Identifier: Apache-2.0
// Tables as a path-selector and a gateway make them, by the functions that these run: weighPaths, expandChain, heirsOf. Nothing is decided here.
import { AffinityKind, ChainRow, OnFailure, OnNodeDown, SelectPolicy } from '@detour/contracts';
import {
  buildSelection,
  type ExpandedChain,
  expandChain,
  heirsOf,
  type Member,
  type NodeState,
  type NodeWorth,
  weighPaths,
} from '@detour/tables';
import { cpuMs } from './cpu-time.js';
import type { SimulatedChain, World } from './world.js';

/** A chain as the datapath has it. */
export interface TableInForce {
  readonly chain: SimulatedChain;
  readonly members: readonly Member[];
  readonly expanded: ExpandedChain;
  /** Heirs of paths that are down. */
  readonly heirs: ReadonlyMap<number, number>;
}

const NO_WORTH: NodeWorth = { score: 0, capacity: 0, drained: false };

export class GatewayTables {
  /** Tables built so far, and CPU time that this took, the weighing of their paths included. */
  built = 0;
  buildMs = 0;
  /** By chain number. */
  private readonly rows = new Map<number, ChainRow>();
  private tables: readonly TableInForce[] = [];

  constructor(private readonly world: World) {}

  get inForce(): readonly TableInForce[] {
    return this.tables;
  }

  /** Bytes of slots. */
  get bytes(): number {
    return this.tables.reduce((sum, { expanded }) => sum + expanded.slots.byteLength, 0);
  }

  /** New rows of these chains; tables follow by `expand`. */
  weigh(worths: ReadonlyMap<number, NodeWorth>, chains = this.world.chains): void {
    const worthOf = (node: number) => worths.get(node) ?? NO_WORTH;
    for (const chain of chains) {
      const [paths, ms] = cpuMs(() => weighPaths(chain.paths, { select: 'weighted', worthOf }));
      this.buildMs += ms;
      const row = ChainRow.fromPartial({
        ...{ number: chain.number, name: chain.name, paths },
        select: SelectPolicy.WEIGHTED,
        affinity: AffinityKind.FIVE_TUPLE,
        onFailure: OnFailure.DROP,
        onNodeDown: OnNodeDown.REBALANCE,
      });
      this.rows.set(chain.number, row);
    }
  }

  /** Tables of the rows as health is now. Those with the same members as before keep their slots. */
  expand(stateOf: (node: number) => NodeState): void {
    const held = new Map(this.tables.map((table) => [table.chain.number, table]));
    this.tables = this.world.chains.flatMap((chain) => {
      const row = this.rows.get(chain.number);
      if (row === undefined) return [];
      const before = held.get(chain.number);
      let members: readonly Member[] = [];
      const slotsOf = (wanted: readonly Member[], number: number) => {
        members = wanted;
        if (before !== undefined && areSame(before.members, wanted)) return before.expanded.slots;
        const [slots, ms] = cpuMs(() => buildSelection(wanted, number));
        this.built++;
        this.buildMs += ms;
        return slots;
      };
      const expanded = expandChain(row, stateOf, { slotsOf });
      return { chain, members, expanded, heirs: heirsOf(chain.number, expanded.paths) };
    });
  }
}

function areSame(one: readonly Member[], other: readonly Member[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ path, weight }, i) => other[i]?.path === path && other[i]?.weight === weight)
  );
}
