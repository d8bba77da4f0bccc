// SPDX-License-Identifier: Apache-2.0
// Reads a BPF ring buffer in JavaScript: the ring is mapped into memory, records are handed out as views, none is copied.
//
// Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer position, which is ours to write; page 1 the producer position; then
// the data, mapped twice in a row, so that a record that wraps is still one piece. A record is an 8-byte header (length with two
// flag bits, page offset) and the payload, padded to 8.
//
// Order: the producer publishes a record by clearing its BUSY bit after the payload, and its position before that. So we load the
// position, then each header, then the payload; we store our position only after the last look at what it gives up. Atomics are
// sequentially consistent, which is more than the acquire and release that is needed; the full barrier between storing our
// position and the next look at the producer's is what keeps a wake-up from being lost.
import { Fault } from '@detour/core';
import { type BpfMap, MapType } from './map.js';
import { mapShared, pageBytes } from './memory.js';
import { waitReadable } from './wait-readable.js';

const HEADER_BYTES = 8;
const BUSY = 0x8000_0000 | 0;
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;

export interface RingOptions {
  /** Records handed out before the event loop gets its turn; default 4,096. */
  readonly maxPerWake?: number;
}

export interface Ring extends Disposable {
  /** Records handed out so far. */
  readonly records: number;
  /** Reads what is there now, at most `max` records, without waiting for a wake-up. Returns how many. */
  read(max?: number): number;
  /** Stops reading; what is left stays in the ring for the next reader. */
  close(): void;
}

/**
 * Hands every record to `onRecord`, which must not keep the view: its memory is given back to the kernel when the wake is over.
 * A throw from `onRecord` counts the record as read and surfaces as an uncaught exception.
 * @throws Fault `invalid` when the map is no ring buffer.
 */
export function openRing(
  map: BpfMap,
  onRecord: (record: Uint8Array) => void,
  options: RingOptions = {},
): Ring {
  if (map.type !== MapType.RINGBUF)
    throw new Fault('invalid', `map ${map.name} is no ring buffer (type ${map.type})`);
  const maxPerWake = options.maxPerWake ?? 4096;
  if (!(maxPerWake >= 1)) throw new Fault('invalid', `maxPerWake of ${maxPerWake}; give 1 or more`);
  const size = map.maxEntries;
  const mask = size - 1;
  const page = pageBytes();
  const what = `ring ${map.name}`;
  const ours = mapShared(map.fd, page, 0, true, what);
  const theirs = mapShared(map.fd, page + 2 * size, page, false, what);
  const consumer = new BigUint64Array(ours.buffer, 0, 1);
  const producer = new BigUint64Array(theirs.buffer, 0, 1);
  const data = new Uint8Array(theirs.buffer, page);
  const headers = new Int32Array(theirs.buffer, page);
  let records = 0;
  let open = true;
  let reading = false;

  const release = (): void => {
    ours.release();
    theirs.release();
  };
  const read = (max = maxPerWake): number => {
    if (!open || reading) return 0;
    reading = true;
    const start = Number(Atomics.load(consumer, 0));
    const available = Number(Atomics.load(producer, 0)) - start;
    const base = start % size;
    let used = 0;
    let count = 0;
    try {
      while (used < available && count < max && open) {
        const at = (base + used) & mask;
        const header = Atomics.load(headers, at >> 2);
        if ((header & BUSY) !== 0) break;
        const length = header & LENGTH_MASK;
        if (length > size - HEADER_BYTES)
          throw new Fault('internal', `${what}: record of ${length} bytes in ${size}`);
        used += (length + HEADER_BYTES + 7) & ~7;
        if ((header & DISCARDED) !== 0) continue;
        count++;
        onRecord(data.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length));
      }
    } finally {
      records += count;
      if (used > 0) Atomics.store(consumer, 0, BigInt(start + used));
      reading = false;
      if (!open) release();
    }
    return count;
  };

  const stop = waitReadable(map.fd, () => read());
  const close = (): void => {
    if (!open) return;
    open = false;
    stop();
    if (!reading) release();
  };
  return {
    get records() {
      return records;
    },
    read,
    close,
    [Symbol.dispose]: close,
  };
}
