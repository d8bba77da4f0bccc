// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowSlots } from './flow-slots.js';

describe('FlowSlots', () => {
  it('never gives a slot twice, never gives slot 0, and gets back exactly what is released', () => {
    const step = fc.oneof(
      fc.constant({ kind: 'take' } as const),
      fc.record({ kind: fc.constant('release' as const), slot: fc.integer({ min: 0, max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const slots = new FlowSlots(17);
        const held = new Set<number>();
        for (const one of steps) {
          if (one.kind === 'release') {
            slots.release(one.slot); // also slots that nobody holds, and numbers beyond the table
            held.delete(one.slot);
          } else if (held.size < 16) {
            const slot = slots.take(0);
            expect(held.has(slot)).toBe(false);
            expect(slot).toBeGreaterThan(0);
            expect(slot).toBeLessThan(17);
            held.add(slot);
          } else expect(() => slots.take(0)).toThrow(/all 16 flow slots are in use: raise DETOUR_MAX_FLOWS/);
          expect(slots.available).toBe(16 - held.size);
        }
      }),
    );
  });

  it('a slot that is given again knows nothing of the flow before', () => {
    const slots = new FlowSlots(2);
    const slot = slots.take(100);
    slots.setDecider(slot, 'controller');
    slots.setPinGen(slot, 7);
    slots.setRecorded(slot, true);
    slots.release(slot);
    expect(slots.take(200)).toBe(slot);
    expect(slots.deciderOf(slot)).toBe('unknown');
    expect(slots.pinGenOf(slot)).toBe(0);
    expect(slots.isRecorded(slot)).toBe(false);
    expect(slots.refreshedAtMs(slot)).toBe(200);
  });

  it('after a restart exactly the adopted slots are in use', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 40 })), (used) => {
        const slots = new FlowSlots(32);
        slots.adopt(
          used.map((slot) => ({ slot, pinGen: slot })),
          5,
        );
        const inside = used.filter((slot) => slot < 32);
        expect(slots.available).toBe(31 - inside.length);
        for (const slot of inside) expect(slots.pinGenOf(slot)).toBe(slot);
        while (slots.available > 0) expect(inside).not.toContain(slots.take(6));
      }),
    );
  });

  it('a sweep frees what no record holds, but not what was taken after it began', () => {
    const slots = new FlowSlots(8);
    const [gone, kept] = [slots.take(10), slots.take(10)];
    const young = slots.take(30);
    const seen = new Uint8Array(8);
    seen[kept] = 1;
    expect(slots.releaseUnseen(seen, 20)).toBe(1);
    expect(slots.available).toBe(5);
    const next = [slots.take(40), slots.take(40), slots.take(40), slots.take(40), slots.take(40)];
    expect(next).toContain(gone);
    expect(next).not.toContain(kept);
    expect(next).not.toContain(young);
  });
});
