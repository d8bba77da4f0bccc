// SPDX-License-Identifier: Apache-2.0
// What a datapath of another ABI has counted, carried on: of each flow exactly, in totals up to the moment before it was replaced.
import {
  type BpfMap,
  type Conversion,
  type MappedArray,
  mapArray,
  perCpuValues,
  planConversion,
  readBatches,
} from '@detour/bpf';
import { abi } from '@detour/contracts';
import { layoutOf } from './moved-rows.js';
import type { Predecessor } from './predecessor.js';

const AT = abi.flowCounters.offsets;
/** Sums in a row, in 64-bit words. */
const SUMS = [0, 1].flatMap((i) => [(AT.packets >> 3) + i, (AT.bytes >> 3) + i]);
const TOTALS = ['stats', 'drops', 'port_counters', 'node_counters', 'rule_counters'] as const;

export class MovedCounters implements Disposable {
  private readonly from: MappedArray;
  private readonly to: MappedArray;
  private readonly convert: Conversion;
  /** As they were copied, by slot. */
  private readonly copied = new Map<number, Uint8Array>();

  constructor(predecessor: Predecessor, to: BpfMap) {
    this.convert = planConversion(predecessor.layout('flow_counters').value, layoutOf(to).value);
    this.from = mapArray(predecessor.map('flow_counters'));
    this.to = mapArray(to);
  }

  /** Rows as they are now; nobody else writes into these yet. */
  copy(slots: Iterable<number>): void {
    for (const slot of slots) {
      const row = this.read(slot);
      this.to.element(slot).set(row);
      this.copied.set(slot, row);
    }
  }

  /** What was counted there after it was copied is added to what is counted here by now. */
  addRest(slots: Iterable<number>): void {
    for (const slot of slots) {
      const row = this.read(slot);
      const before = this.copied.get(slot) ?? new Uint8Array(row.length);
      const [now, then] = [wordsOf(row), wordsOf(before)];
      const live = wordsOf(this.to.element(slot));
      for (const at of SUMS) {
        const more = (now[at] ?? 0n) - (then[at] ?? 0n);
        if (more > 0n) Atomics.add(live, at, more);
      }
      const last = AT.lastNs >> 3;
      if ((now[last] ?? 0n) > Atomics.load(live, last)) Atomics.store(live, last, now[last] ?? 0n);
      const seen = new DataView(row.buffer, row.byteOffset, row.byteLength).getUint32(AT.seen, true);
      const element = this.to.element(slot);
      Atomics.or(
        new Uint32Array(element.buffer, element.byteOffset, element.byteLength >> 2),
        AT.seen >> 2,
        seen,
      );
    }
  }

  private read(slot: number): Uint8Array {
    const row = new Uint8Array(abi.flowCounters.size);
    if (slot * this.from.stride < this.from.bytes.length) this.convert(this.from.element(slot), row);
    return row;
  }

  [Symbol.dispose](): void {
    this.from.close();
    this.to.close();
  }
}

function wordsOf(row: Uint8Array): BigUint64Array {
  return new BigUint64Array(row.buffer, row.byteOffset, row.byteLength >> 3);
}

/** Per-CPU rows of the same numbers, where anything was counted. */
export async function moveTotals(from: Predecessor, to: (name: string) => BpfMap): Promise<void> {
  for (const name of TOTALS) {
    const [old, now] = [from.map(name), to(name)];
    const convert = planConversion(from.layout(name).value, layoutOf(now).value);
    for await (const { count, keys, values } of readBatches(old))
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * old.keySize, (i + 1) * old.keySize);
        const held = values.subarray(i * old.storedSize, (i + 1) * old.storedSize);
        if (held.every((byte) => byte === 0)) continue;
        if (new DataView(key.buffer, key.byteOffset, 4).getUint32(0, true) >= now.maxEntries) continue;
        const next = new Uint8Array(now.storedSize);
        const into = perCpuValues(now, next);
        for (const [cpu, value] of perCpuValues(old, held).entries()) {
          const slot = into[cpu];
          if (slot !== undefined) convert(value, slot);
        }
        now.update(key, next);
      }
  }
}
