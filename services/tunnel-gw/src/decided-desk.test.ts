// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { DecidedDesk } from './decided-desk.js';
import type { DecidedFlow } from './event-desk.js';
import { FlowSlots } from './flow-slots.js';
import type { ChainModel } from './model.js';
import type { PinUse } from './sweeper.js';

const CHAIN = { idleMs: { tcp: 3_600_000, udp: 120_000, other: 60_000 } } as ChainModel;

function openDesk() {
  const slots = new FlowSlots(4096);
  const told: (readonly PinUse[])[] = [];
  let noticed = 0;
  const desk = new DecidedDesk({
    slots,
    noticeTaken: () => void noticed++,
    chainOf: (number) => (number === 3 ? CHAIN : undefined),
    onPins: (pins) => told.push(pins),
  });
  return { slots, told, desk, noticed: () => noticed };
}

function flow(slot: number, fields: Partial<DecidedFlow> & { proto?: number } = {}): DecidedFlow {
  const { proto = 6, ...others } = fields;
  const [a, b] = [new Uint8Array(16), new Uint8Array(16)];
  const key = { a, b, aport: slot, bport: 443, vrf: 1, proto, scope: 0 };
  return { key, slot, path: 7, chain: 3, initiatorIsB: false, ...others };
}

describe('flows that the datapath decided', () => {
  it('are told of together, a connection with a pin that no first choice elsewhere outdoes', () => {
    const { desk, told, slots, noticed } = openDesk();
    desk.take(flow(1));
    desk.take(flow(2, { proto: 17 }));
    expect(told).toEqual([]);
    expect(noticed()).toBe(2); // slots are known before anything is said of them
    desk.flush();
    expect(told).toHaveLength(1);
    expect(told[0]?.map(({ slot, record, ttlS }) => ({ slot, record, ttlS }))).toEqual([
      { slot: 1, record: { gen: 2, path: 7, chain: 3, initiatorIsB: false }, ttlS: 3600 },
      { slot: 2, record: { gen: 1, path: 7, chain: 3, initiatorIsB: false }, ttlS: 120 },
    ]);
    expect([slots.pinGenOf(1), slots.pinGenOf(2)]).toEqual([2, 1]);
    desk.flush();
    expect(told).toHaveLength(1);
  });

  it('do not wait for the tick when they are many', () => {
    const { desk, told } = openDesk();
    for (let slot = 1; slot <= 600; slot++) desk.take(flow(slot));
    expect(told.map((pins) => pins.length)).toEqual([512]);
  });

  it('have nothing to record without a path or a chain', () => {
    const { desk, told, slots } = openDesk();
    desk.take(flow(1, { path: 0, chain: 0 }));
    desk.take(flow(2, { path: 0 }));
    desk.flush();
    expect(told).toEqual([]);
    expect([slots.isRecorded(1), slots.isRecorded(2)]).toEqual([true, false]); // the sweep comes back to one that a path may take up
  });
});
