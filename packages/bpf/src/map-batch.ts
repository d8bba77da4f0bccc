// SPDX-License-Identifier: Apache-2.0
// Large jobs on a map: many elements a call, and a turn of the event loop between calls, so that nothing else waits long.
import { setImmediate } from 'node:timers/promises';
import { Fault } from '@detour/core';
import { Errno, errnoFault } from './errno.js';
import { type BpfMap, UpdateFlag } from './map.js';
import { native } from './native.js';

/** Elements of one call: 1,024 hold the event loop up for about 0.3 ms (16,384 for 5.5 ms). */
export const BATCH_ELEMENTS = 1024;
const MAX_RETRIES = 16;
const EINTR = 4;

export interface BatchOptions {
  /** Elements of one call, 1 to 1,024; default 1,024. */
  readonly chunk?: number;
  readonly signal?: AbortSignal;
}

/** Some elements of a map. The memory is used again for the next chunk: copy what is kept. */
export interface Batch {
  readonly count: number;
  /** count * keySize bytes */
  readonly keys: Uint8Array;
  /** count * storedSize bytes */
  readonly values: Uint8Array;
}

/**
 * Every element of a map, in chunks. Elements that come or go meanwhile may be missed or seen; those that stay are seen once
 * (hash, array).
 * @throws Fault `missing_feature` for map types that the kernel cannot read in batches.
 */
export async function* readBatches(map: BpfMap, options: BatchOptions = {}): AsyncGenerator<Batch> {
  let room = chunkOf(options);
  let keys = new Uint8Array(room * map.keySize);
  let values = new Uint8Array(room * map.storedSize);
  let from: Uint8Array | null = null;
  let next = new Uint8Array(Math.max(4, map.keySize));
  let retries = 0;
  for (;;) {
    options.signal?.throwIfAborted();
    const count = Uint32Array.of(room);
    const rc = native().bpf.mapLookupBatch(map.fd, from, next, keys, values, count, null);
    const got = count[0] ?? 0;
    if (rc === -Errno.ENOSPC && room < map.maxEntries) {
      // One bucket of the hash holds more than fits: it must be read whole.
      room = Math.min(room * 2, map.maxEntries);
      keys = new Uint8Array(room * map.keySize);
      values = new Uint8Array(room * map.storedSize);
      continue;
    }
    if ((rc === -EINTR || rc === -Errno.EAGAIN) && retries++ < MAX_RETRIES) continue;
    if (rc !== 0 && rc !== -Errno.ENOENT) throw errnoFault(rc, `map ${map.name}: batch lookup`);
    if (got > 0) {
      yield {
        count: got,
        keys: keys.subarray(0, got * map.keySize),
        values: values.subarray(0, got * map.storedSize),
      };
    }
    if (rc !== 0) return;
    const before: Uint8Array | null = from;
    from = next;
    next = before === null ? new Uint8Array(next.length) : new Uint8Array(before);
    await setImmediate();
  }
}

/**
 * Stores many elements: `keys` and `values` hold them one after the other. The first chunk is stored before the call returns
 * its promise, so a job of one chunk is synchronous.
 * @throws Fault as BpfMap.update, saying how many elements were stored before.
 */
export async function updateBatch(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  options: BatchOptions & { readonly flags?: number } = {},
): Promise<void> {
  const total = countOf(map, keys);
  if (values.length !== total * map.storedSize) {
    throw new Fault(
      'invalid',
      `map ${map.name}: ${total} keys with ${values.length} bytes of values, expected ${total * map.storedSize}`,
    );
  }
  const opts = batchOpts(options.flags ?? UpdateFlag.ANY);
  for (const [from, to] of chunks(total, chunkOf(options))) {
    if (from > 0) await setImmediate();
    options.signal?.throwIfAborted();
    const count = Uint32Array.of(to - from);
    const rc = native().bpf.mapUpdateBatch(
      map.fd,
      keys.subarray(from * map.keySize, to * map.keySize),
      values.subarray(from * map.storedSize, to * map.storedSize),
      count,
      opts,
    );
    if (rc === 0) continue;
    const stored = from + (rc === -Errno.ENOTSUPP ? 0 : (count[0] ?? 0));
    const remedy = rc === -Errno.E2BIG ? `; the map holds at most ${map.maxEntries} entries` : '';
    throw errnoFault(rc, `map ${map.name}: batch update, ${stored} of ${total} elements stored${remedy}`);
  }
}

/** Removes many keys; returns how many of them were there. As updateBatch, the first chunk is done at once. */
export async function deleteBatch(
  map: BpfMap,
  keys: Uint8Array,
  options: BatchOptions = {},
): Promise<number> {
  const total = countOf(map, keys);
  const opts = batchOpts(0);
  let removed = 0;
  for (const [from, to] of chunks(total, chunkOf(options))) {
    if (from > 0) await setImmediate();
    options.signal?.throwIfAborted();
    for (let at = from; at < to; ) {
      const count = Uint32Array.of(to - at);
      const rc = native().bpf.mapDeleteBatch(
        map.fd,
        keys.subarray(at * map.keySize, to * map.keySize),
        count,
        opts,
      );
      const done = count[0] ?? 0;
      if (rc !== 0 && rc !== -Errno.ENOENT) {
        throw errnoFault(rc, `map ${map.name}: batch delete, ${removed} of ${total} removed`);
      }
      removed += rc === 0 ? to - at : done;
      at = rc === 0 ? to : at + done + 1; // the kernel stops at a key that is absent: go on behind it
    }
  }
  return removed;
}

function countOf(map: BpfMap, keys: Uint8Array): number {
  if (keys.length % map.keySize === 0) return keys.length / map.keySize;
  throw new Fault(
    'invalid',
    `map ${map.name}: ${keys.length} bytes of keys, expected a multiple of ${map.keySize}`,
  );
}

function chunkOf(options: BatchOptions): number {
  const chunk = options.chunk ?? BATCH_ELEMENTS;
  if (Number.isInteger(chunk) && chunk >= 1 && chunk <= BATCH_ELEMENTS) return chunk;
  throw new Fault('invalid', `batch of ${chunk} elements; give 1 to ${BATCH_ELEMENTS}`);
}

function* chunks(total: number, chunk: number): Generator<[from: number, to: number]> {
  for (let from = 0; from < total; from += chunk) yield [from, Math.min(from + chunk, total)];
}

/** struct bpf_map_batch_opts: size, elem_flags, flags. */
function batchOpts(elemFlags: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(24n, BigInt(elemFlags), 0n).buffer);
}
