// SPDX-License-Identifier: Apache-2.0
// With the thread that builds, as it is started in a gateway.
import { buildSelection, type Member } from '@detour/tables';
import { afterAll, describe, expect, it } from 'vitest';
import { SlotBook } from './slot-book.js';
import { SlotBuilder } from './slot-builder.js';

const builder = new SlotBuilder(new URL('../dist/slot-worker.js', import.meta.url));
afterAll(() => builder[Symbol.asyncDispose]());
const many = (count: number, weightOf: (path: number) => number = () => 100): Member[] =>
  Array.from({ length: count }, (_, i) => ({ path: i + 1, weight: weightOf(i + 1) }));

describe('SlotBook', () => {
  it('gives what buildSelection gives, byte by byte, and holds up nothing meanwhile', async () => {
    const book = new SlotBook({
      build: (members, chain) => builder.build(members, chain),
      onError: (text) => expect.unreachable(text),
    });
    const wanted = [3, 4].map((chain) => ({ chain, members: many(200, (path) => 1 + (path % 7)) }));
    expect(wanted.map((one) => book.now(one))).toEqual([null, null]);
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    await Promise.all([book.build(wanted), book.build(wanted)]);
    clearInterval(counting);
    expect(turns).toBeGreaterThan(0);
    for (const one of wanted) expect(book.now(one)).toEqual(buildSelection(one.members, one.chain));
  });

  it('remembers the latest few of each chain; older ones only over the same paths', async () => {
    const book = new SlotBook({
      build: (members, chain) => builder.build(members, chain),
      onError: (text) => expect.unreachable(text),
    });
    const variant = (weight: number) => ({
      chain: 1,
      members: many(17, (path) => (path === 1 ? weight : 10)),
    });
    for (const weight of [1, 2, 3, 4]) await book.build([variant(weight)]);
    expect(book.now(variant(1))).toBeNull();
    expect(book.now(variant(2))).not.toBeNull();
    expect(book.older(variant(9))).toBe(book.now(variant(2))); // the one that was used last
    expect(book.older({ chain: 1, members: many(18) })).toBeNull();
    expect(book.older({ chain: 2, members: many(17) })).toBeNull();
  });

  it('of what is wanted while a table is built, only the latest is built', async () => {
    const built: (number | undefined)[] = [];
    const book = new SlotBook({
      build: async (members, chain) => {
        built.push(members.find(({ weight }) => weight === 0)?.path);
        return builder.build(members, chain);
      },
      onError: (text) => expect.unreachable(text),
    });
    const without = (gone: number) => ({
      chain: 1,
      members: many(20, (path) => (path === gone ? 0 : 10)),
    });
    await Promise.all([1, 2, 3, 4, 5].map((gone) => book.build([without(gone)])));
    expect(built).toEqual([1, 5]);
    expect(book.now(without(5))).toEqual(buildSelection(without(5).members, 1));
    await Promise.all([6, 5, 6].map((gone) => book.build([without(gone)])));
    expect(built).toEqual([1, 5, 6]);
  });

  it('builds by itself when the thread cannot', async () => {
    const told: string[] = [];
    const nowhere = new SlotBuilder(new URL('../dist/no-such-worker.js', import.meta.url));
    const book = new SlotBook({
      build: (members, chain) => nowhere.build(members, chain),
      onError: (text) => told.push(text),
    });
    const one = { chain: 1, members: many(20) };
    await book.build([one]);
    expect(book.now(one)).toEqual(buildSelection(one.members, 1));
    expect(told.join()).toContain('selection of chain 1 is built on the main thread');
  });
});
