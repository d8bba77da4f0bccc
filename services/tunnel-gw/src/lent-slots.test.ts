// SPDX-License-Identifier: Apache-2.0

import { fileURLToPath } from 'node:url';
import { type BpfObject, mapArray, openObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FlowSlots } from './flow-slots.js';
import { LentSlots } from './lent-slots.js';

const OBJECT = fileURLToPath(new URL('../../../datapath/build/edge.bpf.o', import.meta.url));
const { given: GIVEN, taken: TAKEN, slot: SLOT } = abi.freeSlots.offsets;
let object: BpfObject;
let memory: ReturnType<typeof mapArray>;

beforeAll(() => {
  object = openObject(OBJECT, {
    maxEntries: { flows: 64, embryos: 64, flow_counters: 129, flow_front: 64, rules: 64 },
  });
  memory = mapArray(object.map('free_slots'));
});
afterAll(() => {
  memory.close();
  object.close();
});
beforeEach(() => memory.bytes.fill(0));

/** As the datapath does; 0 when there is none. */
function take(): number {
  const taken = memory.view.getBigUint64(TAKEN, true);
  if (taken === memory.view.getBigUint64(GIVEN, true)) return 0;
  memory.view.setBigUint64(TAKEN, taken + 1n, true);
  const row = Number(taken % BigInt(abi.DetourLimit.DT_FREE_SLOTS));
  return memory.view.getUint32(SLOT + 4 * row, true);
}

describe('slots lent to the datapath', () => {
  it('each slot has one holder, whoever takes, lends, takes back and releases', () => {
    const step = fc.constantFrom('take', 'datapath', 'fill', 'back', 'release');
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        memory.bytes.fill(0);
        const slots = new FlowSlots(33);
        const lent = new LentSlots(memory, slots, () => 0);
        const held: number[] = [];
        const hold = (slot: number) => {
          if (slot === 0) return;
          expect(held).not.toContain(slot);
          held.push(slot);
        };
        for (const one of steps) {
          if (one === 'fill') lent.fill();
          else if (one === 'back') lent.takeBack();
          else if (one === 'datapath') hold(take());
          else if (one === 'take' && slots.available > 0) hold(slots.take(0));
          else if (one === 'release') {
            lent.noticeTaken();
            slots.release(held.pop() ?? 0);
          }
        }
        lent.noticeTaken();
        expect(slots.available + lent.lent + held.length).toBe(32);
      }),
    );
  });

  it('knows what the datapath took without being told, as decided in the kernel and not in Redis', () => {
    const slots = new FlowSlots(17);
    const lent = new LentSlots(memory, slots, () => 7);
    lent.fill();
    expect([lent.lent, slots.available]).toEqual([8, 8]);
    const mine = take();
    expect(slots.deciderOf(mine)).toBe('unknown');
    lent.noticeTaken();
    expect([slots.deciderOf(mine), slots.isRecorded(mine), slots.pinGenOf(mine)]).toEqual([
      'kernel',
      false,
      0,
    ]);
    slots.releaseUnseen(new Uint8Array(17), 7); // a sweep that began before it was taken says nothing of it
    expect(slots.deciderOf(mine)).toBe('kernel');
    expect(slots.releaseUnseen(new Uint8Array(17), 8)).toBe(1);
  });

  it('a successor keeps what is lent, and finds what was used meanwhile among the flows', () => {
    const before = new FlowSlots(17);
    new LentSlots(memory, before, () => 0).fill();
    const used = take();
    const slots = new FlowSlots(17);
    const lent = new LentSlots(memory, slots, () => 0);
    slots.adopt([{ slot: used, pinGen: 2 }], 0, lent.unused());
    expect([lent.lent, slots.available]).toEqual([7, 8]);
    const next = take();
    lent.noticeTaken();
    expect([slots.deciderOf(next), slots.pinGenOf(used)]).toEqual(['kernel', 2]);
  });

  it('never runs over rows that are still lent, over many rounds of the ring', () => {
    const slots = new FlowSlots(abi.DetourLimit.DT_FREE_SLOTS * 4);
    const lent = new LentSlots(memory, slots, () => 0);
    for (let round = 0; round < 5; round++) {
      lent.fill();
      expect(lent.lent).toBe(abi.DetourLimit.DT_FREE_SLOTS);
      const seen = new Set<number>();
      for (let slot = take(); slot !== 0; slot = take()) seen.add(slot);
      expect(seen.size).toBe(abi.DetourLimit.DT_FREE_SLOTS);
      lent.noticeTaken();
      for (const slot of seen) slots.release(slot);
    }
  });
});
