// SPDX-License-Identifier: Apache-2.0
// Keeps Redis in step with the pins that the datapath uses: refreshes them, records those that were decided while Redis was away, and writes
// re-pins after the kernel has moved a flow. Packets never wait for any of this. What could not be written stays marked in the flow's slot, and
// the next sweep brings it again. Conflicts go by the written rule: higher generation, then lower path.
import { type Affinity, type Answer, type Pin, type PinRequest, settlePin } from '@detour/affinity';
import type { AlarmBook } from '@detour/bus';
import { type FlowRecord, flowRecordKey, flowRecordRank } from '@detour/contracts';
import { type Clock, describeError, type FlowKey, type Log, PROTO } from '@detour/core';
import { currentPin } from './flow-pin.js';
import type { FlowSlots } from './flow-slots.js';
import type { FlowTable } from './flow-table.js';
import type { ChainModel } from './model.js';
import { PinAlarms } from './pin-alarms.js';
import type { PinUse } from './sweeper.js';
import { WorkQueue } from './work-queue.js';

export interface PinKeeperOptions {
  readonly affinity: Affinity;
  readonly alarms: Pick<AlarmBook, 'raise' | 'clear'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What the keeper asks of the gateway. */
export interface PinnedFlows {
  readonly flows: FlowTable;
  readonly slots: FlowSlots;
  isUsable(chain: number, path: number): boolean;
  chainOf(number: number): ChainModel | undefined;
}

/** So many that Redis is busy, and so few that each has its answer within its budget. */
const MAX_REPINS_AT_ONCE = 256;
const MAX_BATCHES_AT_ONCE = 2;
/** What waits beyond this is left to the sweep, which comes back to every pin that is not recorded. */
const MAX_REPINS_WAITING = 131_072;
const MAX_BATCHES_WAITING = 128;
/** No packet waits for any of this, and a Redis that is half a second away must do. */
const PATIENCE = { budgetMs: 3_000 } as const;
/** Packets are held meanwhile. */
const HELD = { budgetMs: 500 } as const;

interface Batch {
  readonly pins: readonly PinUse[];
  readonly gateway: PinnedFlows;
}

export class PinKeeper implements Disposable {
  private readonly counts = {
    recorded: 0,
    repinned: 0,
    adopted: 0,
    ended: 0,
    ends_lost: 0, // pins of ended connections that were not removed: they expire
    not_written: 0, // attempts that failed; each is made again
    not_refreshed: 0, // the same of refreshes
    left_to_sweep: 0,
  };
  private readonly changes: WorkQueue<{ key: FlowKey; gateway: PinnedFlows }>;
  private readonly batches: WorkQueue<Batch>;
  private readonly refreshes: WorkQueue<Batch>;
  private readonly alarms: PinAlarms;
  private readonly off: () => void;
  private gateway: PinnedFlows | null = null;

  constructor(private readonly options: PinKeeperOptions) {
    const { affinity, alarms, clock } = options;
    const onError = (error: unknown) =>
      options.log.error({}, `a pin was not written to Redis: ${describeError(error)}`);
    this.changes = new WorkQueue({
      ...{ atOnce: MAX_REPINS_AT_ONCE, waiting: MAX_REPINS_WAITING, onError },
      work: ({ key, gateway }) => this.writeChange(key, gateway),
    });
    const batches = { atOnce: MAX_BATCHES_AT_ONCE, waiting: MAX_BATCHES_WAITING, onError };
    this.batches = new WorkQueue({ ...batches, work: (batch) => this.writeBatch(batch) });
    this.refreshes = new WorkQueue({ ...batches, work: (batch) => this.refreshBatch(batch) });
    this.alarms = new PinAlarms({ affinity, alarms, clock });
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
      else this.compare(pin.key, held.get(key), gateway);
    }
  }

  /** Another gateway may have written since this one did. A pin that is being written is compared by who writes it. */
  private compare(key: FlowKey, held: FlowRecord | undefined, gateway: PinnedFlows): void {
    const pin = currentPin(key, gateway);
    if (pin === null || held === undefined || !gateway.slots.isRecorded(pin.slot)) return;
    this.settle(pin, held, gateway);
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
        this.counts.not_written++;
        this.alarms.notWritten();
        continue; // still unrecorded: the sweep comes back to it
      }
      if (slots.useOf(pin.slot) !== use) continue; // the flow has ended meanwhile
      if (Math.max(1, slots.pinGenOf(pin.slot)) !== pin.record.gen) continue; // and this one was moved
      if (answer.value.created) this.recorded(pin, pin.record.gen, gateway.slots);
      else this.settle(pin, answer.value.record, gateway);
    }
  }

  private recorded(pin: PinUse, gen: number, slots: FlowSlots): void {
    slots.setPinGen(pin.slot, gen);
    if (!slots.isRecorded(pin.slot)) this.counts.recorded++;
    slots.setRecorded(pin.slot, true);
  }

  private async writeChange(key: FlowKey, gateway: PinnedFlows): Promise<void> {
    const pin = currentPin(key, gateway);
    if (pin === null) return;
    const gen = nextGeneration(pin, gateway.slots);
    await this.write({ ...pin, record: { ...pin.record, gen } }, pin.record.gen, gateway);
  }

  /** A pin that Redis holds otherwise: the winner counts, unless it cannot be used here. */
  private settle(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    const found = settlePin(pin.record, held, {
      usable: held.programmed !== undefined || gateway.isUsable(held.chain, held.path),
      beganHere: beganHere(pin, gateway.slots),
    });
    switch (found.kind) {
      case 'agreed':
        this.recorded(pin, held.gen, gateway.slots);
        return;
      case 'adopt':
        this.adopt(pin, found.record, gateway);
        return;
      case 'write': {
        const { record, expectedGen } = found;
        gateway.slots.setPinGen(pin.slot, record.gen);
        gateway.slots.setRecorded(pin.slot, false);
        this.write({ ...pin, record }, expectedGen, gateway).catch((error: unknown) =>
          this.options.log.error({}, `a pin was not settled with Redis: ${describeError(error)}`),
        );
      }
    }
  }

  private async write(pin: PinUse, expectedGen: number, gateway: PinnedFlows): Promise<void> {
    const { slots } = gateway;
    const use = slots.useOf(pin.slot);
    const answer = await this.options.affinity.repin(
      { key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS, expectedGen },
      PATIENCE,
    );
    if (!answer.ok) {
      this.counts.not_written++;
      this.alarms.notWritten();
      return; // still unrecorded: the sweep comes back to it
    }
    if (slots.useOf(pin.slot) !== use || slots.pinGenOf(pin.slot) !== pin.record.gen) return;
    if (answer.value.written) {
      slots.setRecorded(pin.slot, true);
      this.counts.repinned++;
    } else this.settle(pin, answer.value.record, gateway);
  }

  /** Another gateway decided this flow first: it goes the other gateway's way from here on. */
  private adopt(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    if (held.path === pin.record.path && flowRecordRank(held) === flowRecordRank(pin.record)) {
      this.recorded(pin, held.gen, gateway.slots);
      return;
    }
    const record = gateway.flows.read(pin.key);
    if (record === null) return;
    const decision = {
      action: 'steer' as const,
      rule: record.flow.rule,
      chain: held.chain,
      path: held.path,
      initiatorIsB: held.initiatorIsB,
      ...(held.programmed === undefined ? {} : { programmed: held.programmed }),
      pinGen: held.gen,
      recorded: true,
      by: gateway.slots.deciderOf(record.flow.slot),
      why: 'pinned by another gateway',
    };
    if (!gateway.flows.replace(pin.key, decision)) return;
    gateway.slots.setPinGen(pin.slot, held.gen);
    gateway.slots.setRecorded(pin.slot, true);
    this.counts.adopted++;
    if (held.path !== pin.record.path) this.alarms.conflict();
  }
}

/** Its SYN was decided by the datapath: what Redis has of a later generation is of an earlier connection between the same ports. */
function beganHere({ key, slot }: PinUse, slots: FlowSlots): boolean {
  return key.proto === PROTO.tcp && slots.deciderOf(slot) === 'kernel' && !slots.isRecorded(slot);
}

/** The generation that a pin has after a move; the pin is not recorded until Redis has said so. */
function nextGeneration(pin: PinUse, slots: FlowSlots): number {
  const gen = pin.record.gen + 1;
  slots.setPinGen(pin.slot, gen);
  slots.setRecorded(pin.slot, false);
  return gen;
}
