// SPDX-License-Identifier: Apache-2.0
import { afterAll, describe, expect, it } from 'vitest';
import { openObject, perCpuValues, possibleCpus, progTestRun, UpdateFlag } from './index.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('basic');
const object = openObject(objects.object('basic'));
afterAll(() => {
  object.close();
  objects[Symbol.dispose]();
});

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function u64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

describe('BpfMap', () => {
  const table = object.map('table');

  it('stores, reads, replaces and removes', () => {
    expect(table.lookup(u32(1))).toBeUndefined();
    table.update(u32(1), u64(11n));
    expect(table.lookup(u32(1))).toEqual(u64(11n));
    table.update(u32(1), u64(12n), UpdateFlag.EXIST);
    expect(table.lookup(u32(1))).toEqual(u64(12n));
    expect(table.delete(u32(1))).toBe(true);
    expect(table.delete(u32(1))).toBe(false);
  });

  it('tells apart stored, exists, absent and full', () => {
    expect(table.tryUpdate(u32(1), u64(1n), UpdateFlag.EXIST)).toBe('absent');
    for (let i = 0; i < table.maxEntries; i++) expect(table.tryUpdate(u32(i), u64(1n))).toBe('stored');
    expect(table.tryUpdate(u32(1), u64(1n), UpdateFlag.NOEXIST)).toBe('exists');
    expect(table.tryUpdate(u32(1000), u64(1n))).toBe('full');
    expect(() => table.update(u32(1000), u64(1n))).toThrow(
      /map table: update of key e8030000: E2BIG.*at most 64/,
    );
    expect([...table.keys()]).toHaveLength(64);
    for (const key of table.keys()) table.delete(key);
    expect(table.getNextKey()).toBeUndefined();
  });

  it('refuses buffers of a wrong size before the kernel sees them', () => {
    expect(() => table.lookup(new Uint8Array(3))).toThrow('map table: key of 3 bytes, expected 4');
    expect(() => table.update(u32(1), new Uint8Array(9))).toThrow('map table: value of 9 bytes, expected 8');
    expect(() => table.lookupInto(u32(1), new Uint8Array(7))).toThrow(
      'map table: value buffer of 7 bytes, expected 8',
    );
  });

  it('takes views into larger buffers', () => {
    const slab = new Uint8Array(64);
    slab.set(u32(5), 20);
    slab.set(u64(55n), 32);
    table.update(slab.subarray(20, 24), slab.subarray(32, 40));
    expect(table.lookup(u32(5))).toEqual(u64(55n));
  });

  it('gives every possible CPU its value', () => {
    const runs = object.map('runs');
    expect(runs.storedSize).toBe(8 * possibleCpus());
    for (let i = 0; i < 5; i++) progTestRun(object.program('note'), { data: new Uint8Array(64) });
    const stored = runs.lookup(u32(0));
    const values = perCpuValues(runs, stored ?? new Uint8Array(0)).map((v) =>
      new DataView(v.buffer, v.byteOffset, 4).getUint32(0, true),
    );
    expect(values).toHaveLength(possibleCpus());
    expect(values.reduce((a, b) => a + b)).toBe(5);
  });
});
