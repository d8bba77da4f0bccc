// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Gathered } from './gathered.js';

describe('Gathered', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('deals with a thousand that come in one turn at once, in their order', async () => {
    const dealt: (readonly number[])[] = [];
    using gathered = new Gathered<number>((items) => dealt.push(items));
    const all = Array.from({ length: 1_000 }, (_, i) => i);
    for (const item of all) gathered.add(item);
    expect(dealt).toEqual([]);
    await vi.advanceTimersByTimeAsync(0);
    expect(dealt).toEqual([all]);
  });

  it('leaves as much time free as the last call took', async () => {
    let nowMs = 0;
    const dealt: number[] = [];
    using gathered = new Gathered<string>(
      (items) => {
        dealt.push(items.length);
        nowMs += 40;
      },
      () => nowMs,
    );
    gathered.add('a');
    await vi.advanceTimersByTimeAsync(0);
    gathered.add('b');
    gathered.add('c');
    await vi.advanceTimersByTimeAsync(39);
    expect(dealt).toEqual([1]);
    await vi.advanceTimersByTimeAsync(1);
    expect(dealt).toEqual([1, 2]);
    nowMs += 40;
    gathered.add('d'); // nothing has been done for so long: at once
    await vi.advanceTimersByTimeAsync(0);
    expect(dealt).toEqual([1, 2, 1]);
  });

  it('forgets what is open when it is closed', async () => {
    const dealt: number[] = [];
    const gathered = new Gathered<number>((items) => dealt.push(...items));
    gathered.add(1);
    await vi.advanceTimersByTimeAsync(0);
    gathered.add(2);
    gathered[Symbol.dispose]();
    await vi.advanceTimersByTimeAsync(100);
    expect(dealt).toEqual([1]);
  });
});
