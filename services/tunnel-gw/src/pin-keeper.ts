// SPDX-License-Identifier: Apache-2.0
// Keeps Redis in step with the pins that the datapath uses: refreshes them, records those that were decided while Redis was away, and writes
// re-pins after the kernel has moved a flow. Packets never wait for any of this. Conflicts go by the written rule: higher generation, then
// lower path.
import { type Affinity, type Answer, type Pin, type PinRequest, winnerOf } from '@detour/affinity';
import type { AlarmBook } from '@detour/bus';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import { type Clock, describeError, type FlowKey, type Log, PROTO } from '@detour/core';
import type { Repin } from './event-desk.js';
import type { FlowSlots } from './flow-slots.js';
import type { FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import type { ChainModel } from './model.js';
import { chainIdleMs, type PinUse } from './sweeper.js';
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
/** No packet waits for any of this. */
const PATIENCE = { budgetMs: 500 } as const;

export class PinKeeper implements Disposable {
  private readonly counts = { recorded: 0, repinned: 0, adopted: 0, ended: 0, left_to_sweep: 0 };
  private readonly repins: WorkQueue<{ repin: Repin; gateway: PinnedFlows }>;
  private readonly batches: WorkQueue<{ pins: readonly PinUse[]; gateway: PinnedFlows }>;
  private readonly off: () => void;

  constructor(private readonly options: PinKeeperOptions) {
    const onError = (error: unknown) =>
      options.log.error({}, `a pin was not written to Redis: ${describeError(error)}`);
    this.repins = new WorkQueue({
      atOnce: MAX_REPINS_AT_ONCE,
      waiting: MAX_REPINS_WAITING,
      work: ({ repin, gateway }) => this.writeRepin(repin, gateway),
      onError,
    });
    this.batches = new WorkQueue({
      atOnce: MAX_BATCHES_AT_ONCE,
      waiting: MAX_BATCHES_WAITING,
      work: ({ pins, gateway }) => this.writeBatch(pins, gateway),
      onError,
    });
    const watch = (connected: boolean) => {
      if (connected) options.alarms.clear('redis_unreachable', '');
      else
        options.alarms.raise(
          'redis_unreachable',
          '',
          'Redis does not answer: flows go on, new ones are decided without it and recorded once it is back',
        );
    };
    this.off = options.affinity.onConnectionChange(watch);
  }

  get connected(): boolean {
    return this.options.affinity.connected;
  }

  figures(): Record<string, bigint> {
    const all = {
      ...this.options.affinity.counters,
      ...this.counts,
      repins_waiting: this.repins.size,
    };
    return Object.fromEntries(
      Object.entries(all).map(([name, value]) => [`redis-${name.replaceAll('_', '-')}`, BigInt(value)]),
    );
  }

  /** For flows whose packets are held meanwhile. */
  lookOrCreate(offers: readonly PinRequest[]): Promise<Answer<Pin[]>> {
    return this.options.affinity.lookOrCreate(offers, PATIENCE);
  }

  /** Extends the expiry of pins in use; one that Redis lost is recorded anew by the next sweep. */
  refresh(pins: readonly PinUse[], slots: FlowSlots): void {
    const now = this.options.clock.monoMs();
    const asked = new Map(
      pins.map(({ key, slot }) => [flowRecordKey(key), { slot, use: slots.useOf(slot) }] as const),
    );
    for (const { slot } of pins) slots.setRefreshed(slot, now);
    void this.options.affinity
      .refresh(pins.map((pin) => ({ key: flowRecordKey(pin.key), ttlS: pin.ttlS })))
      .then((answer) => {
        for (const key of answer.ok ? answer.value.missing : []) {
          const { slot = 0, use = 0 } = asked.get(key) ?? {};
          if (slots.useOf(slot) === use) slots.setRecorded(slot, false);
        }
      });
  }

  /** Removes the pins of connections that have ended; one that is missed expires by itself. */
  end(keys: readonly FlowKey[]): void {
    void this.options.affinity.end(keys.map(flowRecordKey)).then((answer) => {
      if (answer.ok) this.counts.ended += answer.value;
    });
  }

  /** Records pins that Redis does not know, or learns what it knows better. */
  record(pins: readonly PinUse[], gateway: PinnedFlows): void {
    if (!this.batches.add({ pins, gateway })) this.counts.left_to_sweep += pins.length;
  }

  /** The kernel moved a flow: Redis hears of it now. */
  repin(repin: Repin, gateway: PinnedFlows): void {
    if (this.repins.add({ repin, gateway })) return;
    this.counts.left_to_sweep++;
    const pin = currentPin(repin.key, gateway);
    if (pin !== null) nextGeneration(pin, gateway.slots);
  }

  [Symbol.dispose](): void {
    this.off();
  }

  private async writeBatch(pins: readonly PinUse[], gateway: PinnedFlows): Promise<void> {
    const { slots } = gateway;
    const asked = pins.map((pin) => ({ pin, use: slots.useOf(pin.slot) }));
    const answer = await this.options.affinity.lookOrCreate(
      pins.map((pin) => ({ key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS })),
      PATIENCE,
    );
    if (!answer.ok) return;
    for (const [i, { pin, use }] of asked.entries()) {
      const held = answer.value[i];
      if (held === undefined || slots.useOf(pin.slot) !== use) continue; // the flow has ended meanwhile
      if (held.created || held.record.path === pin.record.path) {
        slots.setPinGen(pin.slot, held.record.gen);
        slots.setRecorded(pin.slot, true);
        this.counts.recorded++;
      } else this.settle(pin, held.record, gateway);
    }
  }

  private async writeRepin(repin: Repin, gateway: PinnedFlows): Promise<void> {
    const pin = currentPin(repin.key, gateway);
    if (pin === null) return;
    const gen = nextGeneration(pin, gateway.slots);
    await this.write({ ...pin, record: { ...pin.record, gen } }, pin.record.gen, gateway);
  }

  /** A pin that Redis holds otherwise: the winner counts, unless it cannot be used here. */
  private settle(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    const older = held.gen > pin.record.gen && beganHere(pin, gateway.slots);
    if (!older && gateway.isUsable(held.chain, held.path) && winnerOf(held, pin.record) === held) {
      this.adopt(pin, held, gateway);
      return;
    }
    const gen = Math.max(pin.record.gen, held.gen + 1);
    gateway.slots.setPinGen(pin.slot, gen);
    this.write({ ...pin, record: { ...pin.record, gen } }, held.gen, gateway).catch((error: unknown) =>
      this.options.log.error({}, `a pin was not settled with Redis: ${describeError(error)}`),
    );
  }

  private async write(pin: PinUse, expectedGen: number, gateway: PinnedFlows): Promise<void> {
    const use = gateway.slots.useOf(pin.slot);
    const answer = await this.options.affinity.repin(
      { key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS, expectedGen },
      PATIENCE,
    );
    if (!answer.ok || gateway.slots.useOf(pin.slot) !== use) return; // still unrecorded: the sweep comes back to it
    if (answer.value.written) {
      gateway.slots.setRecorded(pin.slot, true);
      this.counts.repinned++;
      return;
    }
    const held = answer.value.record;
    if (held.path === pin.record.path) {
      gateway.slots.setPinGen(pin.slot, held.gen);
      gateway.slots.setRecorded(pin.slot, true);
    } else if (held.gen >= pin.record.gen || expectedGen !== held.gen) this.settle(pin, held, gateway);
  }

  /** Another gateway decided this flow first: it goes the other gateway's way from here on. */
  private adopt(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    const record = gateway.flows.read(pin.key);
    if (record === null) return;
    const decision = {
      action: 'steer' as const,
      rule: record.flow.rule,
      chain: held.chain,
      path: held.path,
      initiatorIsB: unpackFlowWord(record.flow.word).initiatorIsB,
      pinGen: held.gen,
      recorded: true,
      by: gateway.slots.deciderOf(record.flow.slot),
      why: 'pinned by another gateway',
    };
    if (!gateway.flows.replace(pin.key, decision)) return;
    gateway.slots.setPinGen(pin.slot, held.gen);
    gateway.slots.setRecorded(pin.slot, true);
    this.counts.adopted++;
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

/** The pin as the datapath has it now; null when the flow has ended or is not steered. */
function currentPin(key: FlowKey, gateway: PinnedFlows): PinUse | null {
  const record = gateway.flows.read(key);
  if (record === null) return null;
  const word = unpackFlowWord(record.flow.word);
  const chain = gateway.chainOf(record.flow.chain);
  if (word.path === 0 || chain === undefined) return null;
  const { slot } = record.flow;
  if (slot === 0) return null; // nothing but its opening was seen: once it goes on, Redis hears of it
  return {
    key,
    slot,
    record: {
      gen: Math.max(1, gateway.slots.pinGenOf(slot)),
      path: word.path,
      chain: chain.number,
      initiatorIsB: word.initiatorIsB,
    },
    ttlS: Math.ceil(chainIdleMs(chain, key.proto) / 1000),
  };
}
