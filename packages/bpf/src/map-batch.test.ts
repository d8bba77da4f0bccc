// SPDX-License-Identifier: Apache-2.0
import { afterAll, describe, expect, it } from 'vitest';
import {
  type BpfMap,
  deleteBatch,
  mapArray,
  openObject,
  progTestRun,
  readBatches,
  updateBatch,
} from './index.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('basic');
const object = openObject(objects.object('basic'), { maxEntries: { table: 5000 } });
afterAll(() => {
  object.close();
  objects[Symbol.dispose]();
});

function keysOf(count: number, from = 0): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: count }, (_, i) => from + i).buffer);
}

function valuesOf(count: number): Uint8Array {
  return new Uint8Array(BigUint64Array.from({ length: count }, (_, i) => BigInt(i) * 3n).buffer);
}

async function readAll(map: BpfMap, chunk: number): Promise<Map<number, bigint>> {
  const found = new Map<number, bigint>();
  for await (const batch of readBatches(map, { chunk })) {
    const keys = new DataView(batch.keys.buffer, batch.keys.byteOffset);
    const values = new DataView(batch.values.buffer, batch.values.byteOffset);
    for (let i = 0; i < batch.count; i++) {
      const key = keys.getUint32(i * 4, true);
      expect(found.has(key)).toBe(false);
      found.set(key, values.getBigUint64(i * map.storedSize, true));
    }
  }
  return found;
}

describe('batches', () => {
  const table = object.map('table');

  it('store, read and remove thousands, in chunks', async () => {
    await updateBatch(table, keysOf(3000), valuesOf(3000));
    const found = await readAll(table, 1024);
    expect(found.size).toBe(3000);
    expect(found.get(2999)).toBe(8997n);
    expect(await deleteBatch(table, keysOf(4000, 1000))).toBe(2000); // 2,000 of them were never there
    expect((await readAll(table, 64)).size).toBe(1000);
    expect(await deleteBatch(table, keysOf(1000))).toBe(1000);
    expect((await readAll(table, 64)).size).toBe(0);
  });

  it('skip absent keys wherever they are', async () => {
    await updateBatch(table, keysOf(10, 100), valuesOf(10));
    expect(await deleteBatch(table, keysOf(40, 80))).toBe(10);
    expect(await deleteBatch(table, keysOf(40, 80))).toBe(0);
  });

  it('read buckets that are larger than the chunk', async () => {
    await updateBatch(table, keysOf(5000), valuesOf(5000));
    expect((await readAll(table, 1)).size).toBe(5000);
    await deleteBatch(table, keysOf(5000));
  });

  it('say how far they came when the map is full', async () => {
    await expect(updateBatch(table, keysOf(6000), valuesOf(6000))).rejects.toThrow(
      /5000 of 6000 elements stored; the map holds at most 5000/,
    );
    await deleteBatch(table, keysOf(5000));
  });

  it('read tries and arrays', async () => {
    const prefixes = object.map('prefixes');
    const keys = new Uint8Array(8 * 300);
    for (let i = 0; i < 300; i++) keys.set([32, 0, 0, 0, 10, 0, i >> 8, i & 255], i * 8);
    await updateBatch(prefixes, keys, new Uint8Array(4 * 300));
    let count = 0;
    for await (const batch of readBatches(prefixes, { chunk: 64 })) count += batch.count;
    expect(count).toBe(300);
    expect((await readAll(object.map('shared'), 100)).size).toBe(1024);
    let perCpu = 0;
    for await (const batch of readBatches(object.map('runs'))) perCpu += batch.count;
    expect(perCpu).toBe(4);
  });

  it('let the event loop turn between chunks, and stop when aborted', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const done = updateBatch(table, keysOf(5000), valuesOf(5000), { chunk: 1 });
    expect(table.lookup(keysOf(1))).toBeDefined(); // the first chunk is stored already
    expect(table.lookup(keysOf(1, 1))).toBeUndefined();
    await done;
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
    const abort = new AbortController();
    const reader = readBatches(table, { chunk: 100, signal: abort.signal });
    await reader.next();
    abort.abort();
    await expect(reader.next()).rejects.toThrow(/abort/);
    await deleteBatch(table, keysOf(5000));
  });

  it('refuse wrong sizes and maps without batches', async () => {
    await expect(updateBatch(table, new Uint8Array(5), new Uint8Array(8))).rejects.toThrow(
      /5 bytes of keys, expected a multiple of 4/,
    );
    await expect(updateBatch(table, keysOf(2), new Uint8Array(8))).rejects.toThrow(
      /2 keys with 8 bytes of values, expected 16/,
    );
    await expect(updateBatch(table, keysOf(1), valuesOf(1), { chunk: 5000 })).rejects.toThrow(
      /give 1 to 1024/,
    );
    await expect(deleteBatch(object.map('shared'), keysOf(1))).rejects.toMatchObject({
      code: 'missing_feature',
    });
  });
});

describe('mapArray', () => {
  it('is the same memory that programs and map calls see', () => {
    const shared = object.map('shared');
    using mapped = mapArray(shared);
    progTestRun(object.program('note'), { data: new Uint8Array(64) });
    expect(mapped.view.getUint32(4, true)).toBe(1); // the ingress ifindex of a test run is lo's
    mapped.view.setBigUint64(1023 * mapped.stride, 77n, true);
    expect(shared.lookup(keysOf(1, 1023))).toEqual(new Uint8Array(BigUint64Array.of(77n).buffer));
    expect(mapped.element(1023)[0]).toBe(77);
    expect(() => mapped.element(1024)).toThrow(/element 1024 of 1024/);
  });

  it('can still be touched after it was closed', () => {
    const mapped = mapArray(object.map('shared'));
    mapped.close();
    expect(mapped.bytes[1023 * 8]).toBe(0);
    expect(object.map('shared').lookup(keysOf(1, 1023))?.[0]).toBe(77);
  });

  it('refuses maps that cannot be mapped', () => {
    expect(() => mapArray(object.map('table'))).toThrow(/map table cannot be mapped: declare it/);
  });
});
