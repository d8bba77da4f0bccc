// SPDX-License-Identifier: Apache-2.0
// Flows that the datapath decided: Redis hears of them in batches, once they are more than their opening packet. What an event lost would
// have said, the next sweep finds.
import { PROTO } from '@detour/core';
import { OWN_PIN_GEN } from './decision.js';
import type { DecidedFlow } from './event-desk.js';
import { chainIdleMs } from './flow-pin.js';
import type { FlowSlots } from './flow-slots.js';
import type { ChainModel } from './model.js';
import type { PinUse } from './sweeper.js';

export interface DecidedDeskOptions {
  readonly slots: FlowSlots;
  /** Brings the books up to what the datapath took, so that the slots of these flows are known. */
  readonly noticeTaken: () => void;
  readonly chainOf: (number: number) => ChainModel | undefined;
  readonly onPins: (pins: readonly PinUse[]) => void;
}

/** As many as go into one batch of Redis commands. */
const BATCH = 512;

export class DecidedDesk {
  private pins: PinUse[] = [];

  constructor(private readonly options: DecidedDeskOptions) {}

  take({ key, slot, path, chain, initiatorIsB }: DecidedFlow): void {
    const { slots, noticeTaken, chainOf } = this.options;
    noticeTaken();
    const row = chainOf(chain);
    if (path === 0 || row === undefined) {
      slots.setRecorded(slot, path === 0 && chain === 0); // nothing to record
      return;
    }
    const gen = key.proto === PROTO.tcp ? OWN_PIN_GEN : 1;
    slots.setPinGen(slot, gen);
    this.pins.push({
      key,
      slot,
      record: { gen, path, chain, initiatorIsB },
      ttlS: Math.ceil(chainIdleMs(row, key.proto) / 1000),
    });
    if (this.pins.length >= BATCH) this.flush();
  }

  flush(): void {
    if (this.pins.length === 0) return;
    const pins = this.pins;
    this.pins = [];
    this.options.onPins(pins);
  }
}
