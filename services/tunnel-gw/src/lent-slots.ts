// SPDX-License-Identifier: Apache-2.0
// Counter rows that the datapath may give to flows which it decides: kept filled, and what it took is told from how many it took. No event
// is needed for that, so none can be lost.
import type { MappedArray } from '@detour/bpf';
import { abi } from '@detour/contracts';
import type { FlowSlots } from './flow-slots.js';

const { DT_FREE_SLOTS } = abi.DetourLimit;
const { given: GIVEN_AT, taken: TAKEN_AT, slot: SLOT_AT } = abi.freeSlots.offsets;

/** How many at once, when tunnel-gw has none left. */
const TAKEN_BACK = 64;

/** The only writer of `given` and of the rows. Row `taken` goes to whoever counts it up. */
export class LentSlots implements Disposable {
  private readonly rows: Uint32Array;
  private readonly counts: BigUint64Array;
  /** Up to here what was taken is known. */
  private known: bigint;

  constructor(
    private readonly memory: MappedArray,
    private readonly slots: FlowSlots,
    private readonly monoMs: () => number,
  ) {
    const { buffer, byteOffset } = memory.bytes;
    this.rows = new Uint32Array(buffer, byteOffset + SLOT_AT, DT_FREE_SLOTS);
    this.counts = new BigUint64Array(buffer, byteOffset, SLOT_AT >> 3);
    this.known = this.taken;
  }

  private get given(): bigint {
    return Atomics.load(this.counts, GIVEN_AT >> 3);
  }
  private get taken(): bigint {
    return Atomics.load(this.counts, TAKEN_AT >> 3);
  }

  /** How many the datapath has at hand. */
  get lent(): number {
    return Number(this.given - this.taken);
  }

  /** Those that a predecessor lent and the datapath has not used. */
  *unused(): Iterable<number> {
    for (let at = this.known; at < this.given; at++) yield this.rows[rowOf(at)] ?? 0;
  }

  /** Slots that went to flows since the last look are in use from here on. */
  noticeTaken(): void {
    const taken = this.taken;
    const nowMs = this.monoMs();
    for (; this.known < taken; this.known++) this.slots.taken(this.rows[rowOf(this.known)] ?? 0, nowMs);
  }

  /** Lends as many as fit, but leaves tunnel-gw half of what is free. */
  fill(): void {
    this.noticeTaken();
    let given = this.given;
    const wanted = Math.min(
      DT_FREE_SLOTS - Number(given - this.known),
      (this.slots.available - this.lent) >> 1,
    );
    for (let i = 0; i < wanted; i++) {
      const slot = this.slots.lend();
      if (slot === 0) break;
      this.rows[rowOf(given++)] = slot;
    }
    Atomics.store(this.counts, GIVEN_AT >> 3, given);
  }

  /** Takes some back that the datapath has no use for now; it takes them at the same time, and each goes to one side alone. */
  takeBack(): void {
    for (let i = 0; i < TAKEN_BACK; i++) {
      this.noticeTaken();
      if (this.known >= this.given) return;
      const slot = this.rows[rowOf(this.known)] ?? 0;
      const seen = Atomics.compareExchange(this.counts, TAKEN_AT >> 3, this.known, this.known + 1n);
      if (seen !== this.known) continue;
      this.known++;
      this.slots.returned(slot);
    }
  }

  [Symbol.dispose](): void {
    this.memory.close();
  }
}

function rowOf(at: bigint): number {
  return Number(at % BigInt(DT_FREE_SLOTS));
}
