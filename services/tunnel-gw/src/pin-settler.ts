// SPDX-License-Identifier: Apache-2.0
// Pins that this gateway and Redis hold otherwise, by the written rule: higher generation, then lower path. The winner counts in both.
import { type Affinity, settlePin } from '@detour/affinity';
import { type FlowRecord, flowRecordKey, flowRecordRank } from '@detour/contracts';
import { describeError, type FlowKey, type Log, PROTO } from '@detour/core';
import { currentPin } from './flow-pin.js';
import type { FlowSlots } from './flow-slots.js';
import type { FlowTable } from './flow-table.js';
import type { OwnDecisions } from './own-decisions.js';
import type { PinAlarms } from './pin-alarms.js';
import type { PinUse } from './sweeper.js';

/** What is asked of the gateway whose pins these are. */
export interface PinnedFlows {
  readonly flows: FlowTable;
  readonly slots: FlowSlots;
  readonly decisions: Pick<OwnDecisions, 'isUsable' | 'chainOf'>;
}

/** No packet waits for any of this, and a Redis that is half a second away must do. */
export const PATIENCE = { budgetMs: 3_000 } as const;

export interface PinSettlerOptions {
  readonly affinity: Pick<Affinity, 'repin'>;
  readonly alarms: Pick<PinAlarms, 'notWritten' | 'conflict'>;
  readonly log: Log;
}

export class PinSettler {
  readonly counts = {
    recorded: 0,
    repinned: 0,
    adopted: 0,
    not_written: 0, // attempts that failed; each is made again
  };

  constructor(private readonly options: PinSettlerOptions) {}

  /** Another gateway may have written since this one did. A pin that is being written is compared by who writes it. */
  compare(key: FlowKey, held: FlowRecord | undefined, gateway: PinnedFlows): void {
    const pin = currentPin(key, gateway);
    if (pin === null || held === undefined || !gateway.slots.isRecorded(pin.slot)) return;
    this.settle(pin, held, gateway);
  }

  /** A pin that Redis holds otherwise: the winner counts, unless it cannot be used here. */
  settle(pin: PinUse, held: FlowRecord, gateway: PinnedFlows): void {
    const found = settlePin(pin.record, held, {
      usable: held.programmed !== undefined || gateway.decisions.isUsable(held.chain, held.path),
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

  /** Redis has it under this generation. */
  recorded(pin: PinUse, gen: number, slots: FlowSlots): void {
    slots.setPinGen(pin.slot, gen);
    if (!slots.isRecorded(pin.slot)) this.counts.recorded++;
    slots.setRecorded(pin.slot, true);
  }

  /** The pin as it is by now, as the next generation. */
  async writeChange(key: FlowKey, gateway: PinnedFlows): Promise<void> {
    const pin = currentPin(key, gateway);
    if (pin === null) return;
    const gen = nextGeneration(pin, gateway.slots);
    await this.write({ ...pin, record: { ...pin.record, gen } }, pin.record.gen, gateway);
  }

  private async write(pin: PinUse, expectedGen: number, gateway: PinnedFlows): Promise<void> {
    const { slots } = gateway;
    const use = slots.useOf(pin.slot);
    const answer = await this.options.affinity.repin(
      { key: flowRecordKey(pin.key), record: pin.record, ttlS: pin.ttlS, expectedGen },
      PATIENCE,
    );
    if (!answer.ok) {
      this.notWritten();
      return;
    }
    if (slots.useOf(pin.slot) !== use || slots.pinGenOf(pin.slot) !== pin.record.gen) return;
    if (answer.value.written) {
      slots.setRecorded(pin.slot, true);
      this.counts.repinned++;
    } else this.settle(pin, answer.value.record, gateway);
  }

  /** It is still not recorded: the sweep comes back to it. */
  notWritten(): void {
    this.counts.not_written++;
    this.options.alarms.notWritten();
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
    if (held.path !== pin.record.path) this.options.alarms.conflict();
  }
}

/** Its SYN was decided by the datapath: what Redis has of a later generation is of an earlier connection between the same ports. */
function beganHere({ key, slot }: PinUse, slots: FlowSlots): boolean {
  return key.proto === PROTO.tcp && slots.deciderOf(slot) === 'kernel' && !slots.isRecorded(slot);
}

/** The generation that a pin has after a move; the pin is not recorded until Redis has said so. */
export function nextGeneration(pin: PinUse, slots: FlowSlots): number {
  const gen = pin.record.gen + 1;
  slots.setPinGen(pin.slot, gen);
  slots.setRecorded(pin.slot, false);
  return gen;
}
