// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeadlineHeap } from './deadline-heap.js';

describe('DeadlineHeap', () => {
  it('always names the earliest, whatever was set, moved and removed', () => {
    const action = fc.record({ member: fc.nat(7), at: fc.option(fc.nat(50)) });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const members = Array.from({ length: 8 }, (_, name) => ({ name }));
        const heap = new DeadlineHeap<{ name: number }>();
        const expected = new Map<object, number>();
        for (const { member, at } of actions) {
          const it = members[member];
          if (it === undefined) continue;
          if (at === null) {
            heap.remove(it);
            expected.delete(it);
          } else {
            heap.set(it, at);
            expected.set(it, at);
          }
          const earliest = Math.min(...expected.values());
          expect(heap.next).toBe(expected.size === 0 ? Number.POSITIVE_INFINITY : earliest);
          expect(heap.size).toBe(expected.size);
          const due = heap.due(25);
          if (earliest <= 25 && due !== undefined) expect(expected.get(due)).toBe(earliest);
          else expect(due).toBeUndefined();
        }
      }),
    );
  });
});
