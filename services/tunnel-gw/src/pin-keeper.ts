// SPDX-License-Identifier: Apache-2.0
// Keeps Redis in step with the pins that the datapath uses: refreshes them, records those that were decided while Redis was away, and writes
// re-pins after the kernel has moved a flow. Packets never wait for any of this. What could not be written stays marked in the flow's slot, and
// the next sweep brings it again.
import type { Affinity, Answer, Pin, PinRequest } from '@detour/affinity';
import type { AlarmBook } from '@detour/bus';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import { type Clock, describeError, type FlowKey, type Log } from '@detour/core';
import { currentPin } from './flow-pin.js';
import { PinAlarms } from './pin-alarms.js';
import { nextGeneration, PATIENCE, type PinnedFlows, PinSettler } from './pin-settler.js';
import type { PinUse } from './sweeper.js';
import { WorkQueue } from './work-queue.js';

export interface PinKeeperOptions {
  readonly affinity: Affinity;
  readonly alarms: Pick<AlarmBook, 'raise' | 'clear'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** So many that Redis is busy, and so few that each has its answer within its budget. */
const MAX_REPINS_AT_ONCE = 256;
const MAX_BATCHES_AT_ONCE = 2;
/** What waits beyond this is left to the sweep, which comes back to every pin that is not recorded. */
const MAX_REPINS_WAITING = 131_072;
const MAX_BATCHES_WAITING = 128;
/** Packets are held meanwhile. */
const HELD = { budgetMs: 500 } as const;

interface Batch {
  readonly pins: readonly PinUse[];
  readonly gateway: PinnedFlows;
}

export class PinKeeper implements Disposable {
  private readonly counts = {
    ended: 0,
    ends_lost: 0, // pins of ended connections that were not removed: they expire
    not_refreshed: 0, // attempts that failed; each is made again
    left_to_sweep: 0,
  };
  private readonly changes: WorkQueue<{ key: FlowKey; gateway: PinnedFlows }>;
  private readonly batches: WorkQueue<Batch>;
  private readonly refreshes: WorkQueue<Batch>;
  private readonly alarms: PinAlarms;
  private readonly settler: PinSettler;
  private readonly off: () => void;
  private gateway: PinnedFlows | null = null;

  constructor(private readonly options: PinKeeperOptions) {
    const { affinity, alarms, clock } = options;
    const onError = (error: unknown) =>
      options.log.error({}, `a pin was not written to Redis: ${describeError(error)}`);
    this.changes = new WorkQueue({
      ...{ atOnce: MAX_REPINS_AT_ONCE, waiting: MAX_REPINS_WAITING, onError },
      work: ({ key, gateway }) => this.settler.writeChange(key, gateway),
    });
    const batches = { atOnce: MAX_BATCHES_AT_ONCE, waiting: MAX_BATCHES_WAITING, onError };
    this.batches = new WorkQueue({ ...batches, work: (batch) => this.writeBatch(batch) });
    this.refreshes = new WorkQueue({ ...batches, work: (batch) => this.refreshBatch(batch) });
    this.alarms = new PinAlarms({ affinity, alarms, clock });
    this.settler = new PinSettler({ affinity, alarms: this.alarms, log: options.log });
    // What others have written meanwhile is not known, nor whether Redis has kept what was there.
    this.off = affinity.onConnectionChange((connected) => {
      if (connected) this.gateway?.slots.refreshAllAgain();
    });
  }

  get connected(): boolean {
    return this.options.affinity.connected;
  }

  /** Batches of refreshes that Redis has not answered yet. */
  get refreshing(): number {
    return this.refreshes.size;
  }

  figures(): Record<string, bigint> {
    const all = {
      ...this.options.affinity.counters,
      ...this.settler.counts,
      ...this.counts,
      repins_waiting: this.changes.size,
      batches_waiting: this.batches.size + this.refreshes.size,
      behind_ms: Math.round(this.alarms.behindMs),
    };
    return Object.fromEntries(
      Object.entries(all).map(([name, value]) => [`redis-${name.replaceAll('_', '-')}`, BigInt(value)]),
    );
  }

  /** For flows whose packets are held meanwhile; each key is answered by itself. */
  lookOrCreate(offers: readonly PinRequest[]): Promise<Answer<Pin>[]> {
    return this.options.affinity.lookOrCreate(offers, HELD);
  }

  /** For flows whose packets are held meanwhile. */
  lookUp(keys: readonly string[]): Promise<Answer<FlowRecord | null>[]> {
    return this.options.affinity.lookUp(keys);
  }

  /** Extends the expiry of pins in use and looks whether they are still what Redis holds; one that Redis lost is recorded anew by the next sweep. */
  refresh(pins: readonly PinUse[], gateway: PinnedFlows): void {
    this.gateway = gateway;
    if (this.refreshes.add({ pins, gateway })) {
      const now = this.options.clock.monoMs();
      for (const { slot } of pins) gateway.slots.setRefreshed(slot, now);
    } else this.leave(pins.length);
  }

  /** Removes the pins of connections that have ended. */
  end(keys: readonly FlowKey[]): void {
    void this.options.affinity.end(keys.map(flowRecordKey)).then(({ ended, failed }) => {
      this.counts.ended += ended;
      this.counts.ends_lost += failed;
    });
  }

  /** Records pins that Redis does not know, or learns what it knows better. */
  record(pins: readonly PinUse[], gateway: PinnedFlows): void {
    this.gateway = gateway;
    if (!this.batches.add({ pins, gateway })) this.leave(pins.length);
  }

  /** The kernel moved a flow, or a node has said what becomes of it: Redis hears of it now. */
  changed(key: FlowKey, gateway: PinnedFlows): void {
    if (this.changes.add({ key, gateway })) return;
    this.leave(1);
    const pin = currentPin(key, gateway);
    if (pin !== null) nextGeneration(pin, gateway.slots);
  }

  /** A sweep has seen everything: so many pins are not in Redis. */
  swept(unrecorded: number): void {
    this.alarms.swept(unrecorded);
  }

  [Symbol.dispose](): void {
    this.off();
    this.alarms[Symbol.dispose]();
  }

  private leave(pins: number): void {
    this.counts.left_to_sweep += pins;
    this.alarms.notWritten();
  }

  private async refreshBatch({ pins, gateway }: Batch): Promise<void> {
    const { slots } = gateway;
    const asked = pins.map((pin) => ({ pin, use: slots.useOf(pin.slot), key: flowRecordKey(pin.key) }));
    const { held, missing, failed } = await this.options.affinity.refresh(
      asked.map(({ pin, key }) => ({ key, ttlS: pin.ttlS })),
    );
    if (failed.length > 0) {
      this.counts.not_refreshed += failed.length;
      this.alarms.notWritten();
    }
    const [lost, again] = [new Set(missing), new Set(failed)];
    for (const { pin, use, key } of asked) {
      if (slots.useOf(pin.slot) !== use) continue;
      if (again.has(key)) slots.refreshAgain(pin.slot);
      else if (lost.has(key)) slots.setRecorded(pin.slot, false);
      else this.settler.compare(pin.key, held.get(key), gateway);
    }
  }

  private async writeBatch({ pins, gateway }: Batch): Promise<void> {
    const { slots } = gateway;
    const asked = pins.map((pin) => ({ pin, use: slots.useOf(pin.slot) }));
    const answers = await this.options.affinity.lookOrCreate(
      pins.map((pin) => ({ key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS })),
      PATIENCE,
    );
    for (const [i, { pin, use }] of asked.entries()) {
      const answer = answers[i];
      if (answer?.ok !== true) {
        this.settler.notWritten();
        continue;
      }
      if (slots.useOf(pin.slot) !== use) continue; // the flow has ended meanwhile
      if (Math.max(1, slots.pinGenOf(pin.slot)) !== pin.record.gen) continue; // and this one was moved
      if (answer.value.created) this.settler.recorded(pin, pin.record.gen, gateway.slots);
      else this.settler.settle(pin, answer.value.record, gateway);
    }
  }
}
