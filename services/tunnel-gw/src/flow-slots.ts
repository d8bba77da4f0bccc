// SPDX-License-Identifier: Apache-2.0
// Rows of the flow_counters map: who holds which, and what tunnel-gw alone knows of the flow in each.
import { Fault } from '@detour/core';

/** Who made a flow's decision. */
export const DECIDERS = ['unknown', 'controller', 'last-tables', 'kernel', 'redis'] as const;
export type Decider = (typeof DECIDERS)[number];

const FREE = 0;
const USED = 1;
/** Given to the datapath in advance, for a flow that it may decide. */
const LENT = 2;

/** Slot 0 is nobody's. A slot is free again only after a sweep that no longer saw it in either flow map. */
export class FlowSlots {
  private readonly free: Uint32Array;
  private freeCount: number;
  private readonly used: Uint8Array;
  private readonly decidedBy: Uint8Array;
  private readonly recorded: Uint8Array;
  private readonly refreshedAt: Float64Array;
  private readonly takenAt: Float64Array;
  private readonly pinGens: Uint32Array;
  private readonly uses: Uint32Array;

  constructor(readonly capacity: number) {
    this.free = new Uint32Array(capacity);
    for (let i = 0; i < capacity - 1; i++) this.free[i] = capacity - 1 - i;
    this.freeCount = capacity - 1;
    this.used = new Uint8Array(capacity);
    this.decidedBy = new Uint8Array(capacity);
    this.recorded = new Uint8Array(capacity);
    this.refreshedAt = new Float64Array(capacity);
    this.takenAt = new Float64Array(capacity);
    this.pinGens = new Uint32Array(capacity);
    this.uses = new Uint32Array(capacity);
  }

  get available(): number {
    return this.freeCount;
  }

  /** Slots that are given or lent. */
  get inUse(): number {
    return this.capacity - 1 - this.freeCount;
  }

  /** @throws Fault `exhausted` */
  take(nowMs: number): number {
    if (this.freeCount === 0)
      throw new Fault('exhausted', `all ${this.capacity - 1} flow slots are in use: raise DETOUR_MAX_FLOWS`);
    const slot = this.free[--this.freeCount] ?? 0;
    this.use(slot, nowMs);
    return slot;
  }

  private use(slot: number, nowMs: number): void {
    this.used[slot] = USED;
    this.uses[slot] = (this.uses[slot] ?? 0) + 1;
    this.decidedBy[slot] = 0;
    this.recorded[slot] = 0;
    this.pinGens[slot] = 0;
    this.refreshedAt[slot] = nowMs;
    this.takenAt[slot] = nowMs;
  }

  /** A free slot for the datapath; 0 when there is none. */
  lend(): number {
    if (this.freeCount === 0) return 0;
    const slot = this.free[--this.freeCount] ?? 0;
    this.used[slot] = LENT;
    return slot;
  }

  /** A lent slot that no flow got is free again. */
  returned(slot: number): void {
    if (slot >= this.capacity || this.used[slot] !== LENT) return;
    this.used[slot] = FREE;
    this.free[this.freeCount++] = slot;
  }

  /** The datapath gave a lent slot to a flow that it decided; nothing of that is in Redis yet. */
  taken(slot: number, nowMs: number): void {
    if (slot >= this.capacity || this.used[slot] !== LENT) return;
    this.use(slot, nowMs);
    this.setDecider(slot, 'kernel');
  }

  release(slot: number): void {
    if (slot === 0 || slot >= this.capacity || this.used[slot] !== USED) return;
    this.used[slot] = FREE;
    this.free[this.freeCount++] = slot;
  }

  /** After a restart: exactly these slots are in use, and those lent that the datapath still has. */
  adopt(flows: Iterable<{ slot: number; pinGen: number }>, nowMs: number, lent: Iterable<number> = []): void {
    this.used.fill(FREE);
    for (const slot of lent) if (slot > 0 && slot < this.capacity) this.used[slot] = LENT;
    for (const { slot, pinGen } of flows) {
      if (slot === 0 || slot >= this.capacity) continue;
      this.used[slot] = USED;
      this.pinGens[slot] = pinGen;
      this.refreshAgain(slot);
      this.takenAt[slot] = nowMs;
      this.recorded[slot] = 1; // its predecessor recorded it, or the refresh by the first sweep finds otherwise
    }
    this.freeCount = 0;
    for (let slot = this.capacity - 1; slot > 0; slot--)
      if (this.used[slot] === FREE) this.free[this.freeCount++] = slot;
  }

  /** Releases what a whole sweep did not see, saying so of each; what was taken after the sweep began stays. */
  releaseUnseen(
    seen: Uint8Array,
    sweepBeganMs: number,
    onRelease: (slot: number) => void = () => {},
  ): number {
    let released = 0;
    for (let slot = 1; slot < this.capacity; slot++) {
      if (this.used[slot] === USED && seen[slot] === 0 && (this.takenAt[slot] ?? 0) < sweepBeganMs) {
        onRelease(slot);
        this.release(slot);
        released++;
      }
    }
    return released;
  }

  /** Another number each time that the slot is given: tells an answer about its flow from one about a flow before. */
  useOf(slot: number): number {
    return this.uses[slot] ?? 0;
  }
  setDecider(slot: number, decider: Decider): void {
    this.decidedBy[slot] = DECIDERS.indexOf(decider);
  }
  deciderOf(slot: number): Decider {
    return DECIDERS[this.decidedBy[slot] ?? 0] ?? 'unknown';
  }
  /** Generation of the flow's pin as Redis has it, or is about to; 0: not recorded. */
  pinGenOf(slot: number): number {
    return this.pinGens[slot] ?? 0;
  }
  setPinGen(slot: number, gen: number): void {
    this.pinGens[slot] = gen;
  }
  setRecorded(slot: number, recorded: boolean): void {
    this.recorded[slot] = recorded ? 1 : 0;
  }
  isRecorded(slot: number): boolean {
    return this.recorded[slot] === 1;
  }
  /** When it was given. */
  takenAtMs(slot: number): number {
    return this.takenAt[slot] ?? 0;
  }
  refreshedAtMs(slot: number): number {
    return this.refreshedAt[slot] ?? 0;
  }
  setRefreshed(slot: number, nowMs: number): void {
    this.refreshedAt[slot] = nowMs;
  }
  /** Its next refresh is due now. */
  refreshAgain(slot: number): void {
    this.refreshedAt[slot] = Number.NEGATIVE_INFINITY;
  }
  refreshAllAgain(): void {
    this.refreshedAt.fill(Number.NEGATIVE_INFINITY);
  }
}
