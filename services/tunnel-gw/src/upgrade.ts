// SPDX-License-Identifier: Apache-2.0

/*
 * A datapath of another ABI is replaced under traffic. What is known of flows is carried from its maps into the new ones, field by field (moved-rows.ts):
 *
 *	begin     all records, while the old program steers; slots, chain generations and the rules' generation as they were
 *	catchUp   the same once more, just before the new tables go live: what the old program began or changed meanwhile
 *	(live)    the new program takes the place of the old one on each device, in an instant (Datapath.replacePredecessor)
 *	finish    what the old program still wrote until then: records that are not there yet, and what it counted; its pins go
 *
 * Between catchUp and finish a packet may meet no record: it is held and decided as that of any unknown flow. The old program takes counter rows
 * that it was lent until the last moment, so nobody else gets one of those before it is gone.
 */
import type { BpfMap } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import type { Datapath } from './datapath.js';
import type { FlowSlots } from './flow-slots.js';
import { MovedCounters, moveTotals } from './moved-counters.js';
import { MovedRows, readControl, readLent, seedChains } from './moved-rows.js';
import type { Predecessor } from './predecessor.js';

const { FLOW_PENDING } = abi.FlowAction;

export interface UpgradeOptions {
  readonly datapath: Datapath;
  readonly predecessor: Predecessor;
  readonly slots: FlowSlots;
  readonly monoMs: () => number;
  readonly log: Log;
}

export class Upgrade {
  /** Null: what is there cannot be read, and flows are decided anew, by their pins. */
  private readonly moved: { readonly rows: MovedRows; readonly counters: MovedCounters } | null;
  private pending = true;

  /** Generations are as they were when this returns. */
  constructor(private readonly options: UpgradeOptions) {
    const { predecessor, datapath, slots } = options;
    const map = (name: string): BpfMap => datapath.map(name);
    this.moved = this.orNull(() => {
      const control = readControl(predecessor);
      const rows = new MovedRows({
        from: predecessor,
        to: map,
        capacity: slots.capacity,
        pending: FLOW_PENDING,
      });
      seedChains(predecessor, map, control.bank);
      datapath.setRulesGen(control.rulesGen);
      return { rows, counters: new MovedCounters(predecessor, map('flow_counters')) };
    });
  }

  /** The old program still steers, or is being replaced: records here are copies of its own. */
  get isPending(): boolean {
    return this.pending;
  }

  /** All records, to be adopted; the counter rows that the old program may still take. */
  async begin(): Promise<number[]> {
    const { predecessor, log } = this.options;
    const counts = await this.tried(({ rows }) => rows.copy('all'));
    log.info({ ...counts }, 'flows are moved from a datapath of another ABI, which steers meanwhile');
    return this.orNull(() => readLent(predecessor)) ?? [];
  }

  async catchUp(): Promise<void> {
    if (!this.pending) return;
    const { predecessor, datapath } = this.options;
    await this.tried(async ({ rows, counters }) => {
      await rows.copy('all');
      counters.copy(rows.slots);
      await moveTotals(predecessor, (name) => datapath.map(name));
      await rows.copy('all'); // what began while counters were copied
    });
  }

  async finish(): Promise<void> {
    if (!this.pending) return;
    const { predecessor, slots, monoMs, datapath, log } = this.options;
    const counts = await this.tried(async ({ rows, counters }) => {
      const unused = readLent(predecessor); // nothing takes one any more
      const done = await rows.copy('missing');
      for (const slot of rows.slots) slots.taken(slot, monoMs()); // of those lent
      for (const slot of unused) slots.returned(slot);
      counters.addRest(rows.slots);
      return done;
    });
    datapath.bumpFlows();
    this.moved?.counters[Symbol.dispose]();
    this.pending = false;
    this.orNull(() => predecessor.remove());
    log.info({ ...counts }, 'the datapath of another ABI is replaced');
  }

  private async tried<T>(work: (moved: NonNullable<Upgrade['moved']>) => Promise<T>): Promise<T | null> {
    if (this.moved === null) return null;
    try {
      return await work(this.moved);
    } catch (error) {
      this.tell(error);
      return null;
    }
  }

  private orNull<T>(work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      this.tell(error);
      return null;
    }
  }

  private tell(error: unknown): void {
    this.options.log.error(
      {},
      `what a datapath of another ABI knows is not moved whole: ${describeError(error)}; flows that are left behind are decided anew, by their pins`,
    );
  }
}
