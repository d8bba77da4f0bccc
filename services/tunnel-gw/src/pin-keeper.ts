// SPDX-License-Identifier: Apache-2.0
// Keeps Redis in step with the pins that the datapath uses: refreshes them, records those that were decided while Redis was away, and writes
// re-pins after the kernel has moved a flow. Packets never wait for any of this. Conflicts go by the written rule: higher generation, then
// lower path.
import { type Affinity, winnerOf } from '@detour/affinity';
import type { AlarmBook } from '@detour/bus';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import type { Clock, FlowKey, Log } from '@detour/core';
import type { Repin } from './event-desk.js';
import type { FlowSlots } from './flow-slots.js';
import type { FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import type { ChainModel } from './model.js';
import { chainIdleMs, type PinUse } from './sweeper.js';

export interface PinKeeperOptions {
  readonly affinity: Affinity;
  readonly alarms: AlarmBook;
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

const MAX_REPINS_AT_ONCE = 2_048;

export class PinKeeper implements Disposable {
  private readonly counts = { recorded: 0, repinned: 0, adopted: 0, repins_waiting: 0 };
  private readonly queue: { repin: Repin; gateway: PinnedFlows }[] = [];
  private underWay = 0;
  private readonly off: () => void;

  constructor(private readonly options: PinKeeperOptions) {
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
      repins_waiting: this.queue.length + this.underWay,
    };
    return Object.fromEntries(
      Object.entries(all).map(([name, value]) => [`redis-${name.replaceAll('_', '-')}`, BigInt(value)]),
    );
  }

  /** Extends the expiry of pins in use; one that Redis lost is recorded anew by the next sweep. */
  refresh(pins: readonly PinUse[], slots: FlowSlots): void {
    const now = this.options.clock.monoMs();
    for (const pin of pins) slots.setRefreshed(pin.slot, now);
    const slotOf = new Map(pins.map((pin) => [flowRecordKey(pin.key), pin.slot]));
    void this.options.affinity
      .refresh(pins.map((pin) => ({ key: flowRecordKey(pin.key), ttlS: pin.ttlS })))
      .then((answer) => {
        for (const key of answer.ok ? answer.value.missing : [])
          slots.setRecorded(slotOf.get(key) ?? 0, false);
      });
  }

  /** Records pins that Redis does not know, or learns what it knows better. */
  record(pins: readonly PinUse[], gateway: PinnedFlows): void {
    const requests = pins.map((pin) => ({ key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS }));
    void this.options.affinity.lookOrCreate(requests).then((answer) => {
      if (!answer.ok) return;
      for (const [i, held] of answer.value.entries()) {
        const pin = pins[i];
        if (pin === undefined) continue;
        if (held.created || held.record.path === pin.record.path) {
          gateway.slots.setPinGen(pin.slot, held.record.gen);
          gateway.slots.setRecorded(pin.slot, true);
          this.counts.recorded++;
        } else this.settle(pin, held.record, gateway);
      }
    });
  }

  /** The kernel moved a flow: Redis hears of it now. */
  repin(repin: Repin, gateway: PinnedFlows): void {
    this.queue.push({ repin, gateway });
    this.work();
  }

  [Symbol.dispose](): void {
    this.off();
  }

  private work(): void {
    while (this.underWay < MAX_REPINS_AT_ONCE) {
      const next = this.queue.shift();
      if (next === undefined) return;
      const pin = currentPin(next.repin.key, next.gateway);
      if (pin === null) continue;
      next.gateway.slots.setPinGen(pin.slot, pin.record.gen + 1);
      next.gateway.slots.setRecorded(pin.slot, false);
      this.underWay++;
      void this.write(
        { ...pin, record: { ...pin.record, gen: pin.record.gen + 1 } },
        pin.record.gen,
        next.gateway,
      ).finally(() => {
        this.underWay--;
        this.work();
      });
    }
  }

  /** A pin that Redis holds otherwise: the winner counts, unless it cannot be used here. */
  private settle(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    if (gateway.isUsable(held.chain, held.path) && winnerOf(held, pin.record) === held) {
      this.adopt(pin, held, gateway);
      return;
    }
    const gen = Math.max(pin.record.gen, held.gen + 1);
    gateway.slots.setPinGen(pin.slot, gen);
    void this.write({ ...pin, record: { ...pin.record, gen } }, held.gen, gateway);
  }

  private async write(pin: PinUse, expectedGen: number, gateway: PinnedFlows): Promise<void> {
    const answer = await this.options.affinity.repin({
      key: flowRecordKey(pin.key),
      record: pin.record,
      ttlS: pin.ttlS,
      expectedGen,
    });
    if (!answer.ok) return; // still unrecorded: the sweep comes back to it
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

/** The pin as the datapath has it now; null when the flow has ended or is not steered. */
function currentPin(key: FlowKey, gateway: PinnedFlows): PinUse | null {
  const record = gateway.flows.read(key);
  if (record === null) return null;
  const word = unpackFlowWord(record.flow.word);
  const chain = gateway.chainOf(record.flow.chain);
  if (word.path === 0 || chain === undefined) return null;
  const { slot } = record.flow;
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
