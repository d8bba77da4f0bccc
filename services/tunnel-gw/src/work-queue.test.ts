// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { WorkQueue } from './work-queue.js';

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('WorkQueue', () => {
  it('does so much at once, in order, refuses what has no room, and goes on after an error', async () => {
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const errors: string[] = [];
    const queue = new WorkQueue<number>({
      atOnce: 2,
      waiting: 3,
      work: (item) => {
        begun.push(item);
        return new Promise((resolve, reject) =>
          ends.push(() => (item === 1 ? reject(new Error(`item ${item}`)) : resolve())),
        );
      },
      onError: (error) => errors.push(String(error)),
    });
    expect([1, 2, 3, 4, 5, 6].map((item) => queue.add(item))).toEqual([true, true, true, true, true, false]);
    expect(begun).toEqual([1, 2]);
    expect(queue.size).toBe(5);
    ends[0]?.();
    await settle();
    expect(errors).toEqual(['Error: item 1']);
    expect(begun).toEqual([1, 2, 3]);
    for (let i = 1; i < 5; i++) {
      ends[i]?.();
      await settle();
    }
    expect(begun).toEqual([1, 2, 3, 4, 5]);
    expect(queue.size).toBe(0);
  });

  it('keeps its order over many items', async () => {
    const seen: number[] = [];
    const queue = new WorkQueue<number>({
      atOnce: 7,
      waiting: 100_000,
      work: async (item) => {
        seen.push(item);
      },
      onError: () => {},
    });
    for (let i = 0; i < 50_000; i++) queue.add(i);
    while (queue.size > 0) await settle();
    expect(seen).toHaveLength(50_000);
    expect(seen.every((item, i) => item === i)).toBe(true);
  });
});
