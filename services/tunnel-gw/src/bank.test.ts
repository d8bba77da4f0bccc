// SPDX-License-Identifier: Apache-2.0
import { Fault } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { type BankStore, Banks, type Row } from './bank.js';

const row = (table: string, id: number, value: number): Row => ({
  table,
  id,
  key: (bank) => Uint8Array.of(bank, id),
  value: Uint8Array.of(value),
});

/** The two banks as plain maps, with every call noted. */
function memoryStore(refuse: (table: string, key: Uint8Array) => boolean = () => false) {
  const cells = new Map<string, number>();
  const calls: string[] = [];
  let bank = 0;
  const store: BankStore = {
    write: (table, key, value) => {
      if (refuse(table, key)) throw new Fault('exhausted', `map ${table} is full`);
      calls.push(`write ${table} ${key.join('/')}=${value.join()}`);
      cells.set(`${key[0]}:${table}/${key[1]}`, value[0] ?? -1);
    },
    remove: (table, key) => {
      calls.push(`remove ${table} ${key.join('/')}`);
      cells.delete(`${key[0]}:${table}/${key[1]}`);
    },
    wipe: (which) => {
      calls.push(`wipe ${which}`);
      for (const name of [...cells.keys()]) if (name.startsWith(`${which}:`)) cells.delete(name);
    },
    pointRules: (which, half) => calls.push(`rules of ${which} in ${half}`),
    readBank: () => bank,
    flip: (to) => {
      calls.push(`flip ${to}`);
      bank = to;
    },
  };
  const live = () =>
    Object.fromEntries(
      [...cells].filter(([name]) => name.startsWith(`${bank}:`)).map(([n, v]) => [n.slice(2), v]),
    );
  return { store, cells, calls, live };
}

/** A clock on which every look is a millisecond later, so that no version waits for readers. */
function running(): () => number {
  let now = 0;
  return () => ++now;
}

describe('Banks', () => {
  it('stages in the idle bank, then flips; what is live is the whole version', () => {
    const { store, live, calls } = memoryStore();
    const banks = new Banks({ store, monoMs: running(), wipe: false });
    banks.publish([row('hops', 1, 10), row('paths', 1, 20)], 1);
    expect(live()).toEqual({ 'hops/1': 10, 'paths/1': 20 });
    expect(calls.slice(-2)).toEqual(['rules of 1 in 1', 'flip 1']);
    banks.publish([row('hops', 1, 11), row('paths', 1, 20)], 1);
    expect(live()).toEqual({ 'hops/1': 11, 'paths/1': 20 });
  });

  it('wipes a bank of unknown content before it is staged, once', () => {
    const { store, cells, calls, live } = memoryStore();
    cells.set('1:hops/9', 99); // left by a predecessor
    cells.set('0:hops/8', 88);
    const banks = new Banks({ store, monoMs: running(), wipe: true });
    banks.publish([row('hops', 1, 1)], 1);
    expect(live()).toEqual({ 'hops/1': 1 });
    expect(cells.get('0:hops/8')).toBe(88); // packets may still have read it: not touched by the first version
    banks.publish([row('hops', 1, 2)], 1);
    expect(live()).toEqual({ 'hops/1': 2 });
    banks.publish([row('hops', 1, 3)], 1);
    expect(calls.filter((call) => call.startsWith('wipe'))).toEqual(['wipe 1', 'wipe 0']);
  });

  it('writes only what the bank does not hold already, and removes what is gone', () => {
    const { store, calls, live } = memoryStore();
    const banks = new Banks({ store, monoMs: running(), wipe: false });
    const rows = [row('hops', 1, 1), row('hops', 2, 2)];
    banks.publish(rows, 1);
    banks.publish(rows, 1);
    calls.length = 0;
    expect(banks.publish([row('hops', 1, 1), row('hops', 3, 3)], 1)).toEqual({ written: 1, removed: 1 });
    expect(calls).toEqual(['write hops 1/3=3', 'remove hops 1/2', 'rules of 1 in 1', 'flip 1']);
    expect(live()).toEqual({ 'hops/1': 1, 'hops/3': 3 });
  });

  it('refuses a version of which one row is refused: names the row, and nothing of it goes live', () => {
    let full = false;
    const { store, live, calls } = memoryStore((table, key) => full && table === 'tunnels' && key[1] === 7);
    const banks = new Banks({ store, monoMs: running(), wipe: false });
    banks.publish([row('hops', 1, 1)], 1);
    full = true;
    calls.length = 0;
    expect(() => banks.publish([row('hops', 1, 2), row('tunnels', 7, 1)], 1)).toThrow(
      /row 7 of table tunnels/,
    );
    expect(live()).toEqual({ 'hops/1': 1 });
    expect(calls.some((call) => call.startsWith('flip'))).toBe(false);
    full = false;
    banks.publish([row('hops', 1, 3), row('tunnels', 8, 1)], 1); // what the refused version had staged is not in the way
    expect(live()).toEqual({ 'hops/1': 3, 'tunnels/8': 1 });
  });

  it('does not touch the bank that was live until its last readers have had a millisecond', () => {
    const { store } = memoryStore();
    let now = 0;
    let looks = 0;
    const monoMs = () => {
      looks++;
      now += 0.1;
      return now;
    };
    const banks = new Banks({ store, monoMs, wipe: false });
    banks.publish([], 1);
    expect(banks.mirror()).toBe(false);
    const first = looks;
    banks.publish([], 1);
    expect(looks - first).toBeGreaterThanOrEqual(8);
  });

  it('mirrors what is live into the idle bank, so that the next version writes its own difference alone', () => {
    const { store, cells, calls, live } = memoryStore();
    const banks = new Banks({ store, monoMs: running(), wipe: true });
    const first = row('hops', 1, 1);
    banks.publish([first, row('hops', 2, 2)], 1);
    expect(banks.mirror()).toBe(true);
    expect([cells.get('0:hops/1'), cells.get('0:hops/2')]).toEqual([1, 2]);
    calls.length = 0;
    banks.publish([first, row('hops', 2, 3)], 1);
    expect(calls).toEqual(['write hops 0/2=3', 'rules of 0 in 1', 'flip 0']);
    expect(live()).toEqual({ 'hops/1': 1, 'hops/2': 3 });
  });

  it('a row that is refused in the idle bank alone leaves what is live, and the next version is staged whole', () => {
    let full = false;
    const { store, live } = memoryStore((_table, key) => full && key[0] === 0);
    const banks = new Banks({ store, monoMs: running(), wipe: false });
    banks.publish([row('hops', 1, 1), row('hops', 2, 2)], 1);
    full = true;
    expect(() => banks.mirror()).toThrow(/row 1 of table hops/);
    expect(live()).toEqual({ 'hops/1': 1, 'hops/2': 2 });
    full = false;
    banks.publish([row('hops', 1, 1)], 1);
    expect(live()).toEqual({ 'hops/1': 1 });
  });
});
