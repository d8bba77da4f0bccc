// SPDX-License-Identifier: Apache-2.0
// What packets of ours that cross a node say of the way through it: how many came back, and how soon. Pure but for what it remembers.

/** A number goes along behind the control packet, where RFC 5880 section 6.8.6 ignores it; four bytes, network order, 0: not measured. */
const NUMBER_AT = 24;
export const PROBE_LEN_BYTES = NUMBER_AT + 4;

/** One that takes longer is lost, and stays lost when it comes after all. */
export const LOST_AFTER_US = 2_000_000;
/** And so is one that so many later ones overtook: a way may swap packets, but hardly that far. */
export const OVERTAKEN_BY = 3;

/** Of packets whose fate was settled since the last time somebody took these figures; there is at least one. */
export interface ProbeFigures {
  readonly sent: number;
  readonly lost: number;
  /**
   * The shortest time that one took, microseconds; null when none came. A queue that stands in the way delays the quickest one as well;
   * that this machine was busy for a moment does not.
   */
  readonly rttUs: number | null;
}

/** The number that a packet carries; 0 when it carries none. */
export function probeNumber(payload: Uint8Array): number {
  if (payload.byteLength < PROBE_LEN_BYTES) return 0;
  return new DataView(payload.buffer, payload.byteOffset).getUint32(NUMBER_AT);
}

/** Packets on their way, and what became of those before. All times are microseconds of one monotonic clock. */
export class ProbeLog {
  readonly #out = new Map<number, number>();
  #number = 0;
  #came = 0;
  #lost = 0;
  #shortestUs: number | null = null;

  /** Numbers a packet that is sent now. `bytes` has PROBE_LEN_BYTES, the control packet in front. */
  stamp(bytes: Uint8Array, nowUs: number): number {
    this.#expire(nowUs);
    this.#number = (this.#number % 0xffff_ffff) + 1;
    this.#out.set(this.#number, nowUs);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(NUMBER_AT, this.#number);
    return this.#number;
  }

  /** It was not sent after all. */
  unsent(number: number): void {
    this.#out.delete(number);
  }

  /** @returns how long it took; null when nothing was measured by it: it is a second copy, or came too late */
  came(number: number, nowUs: number): number | null {
    this.#expire(nowUs);
    const sentUs = this.#out.get(number);
    if (sentUs === undefined) return null;
    this.#out.delete(number);
    for (const earlier of this.#out.keys()) {
      if (earlier > number - OVERTAKEN_BY) break;
      this.#out.delete(earlier);
      this.#lost += 1;
    }
    this.#came += 1;
    const tookUs = nowUs - sentUs;
    this.#shortestUs = Math.min(this.#shortestUs ?? tookUs, tookUs);
    return tookUs;
  }

  /** What is known since the last call; null when nothing is. Packets still on their way belong to the next one. */
  take(nowUs: number): ProbeFigures | null {
    this.#expire(nowUs);
    const sent = this.#came + this.#lost;
    const figures = { sent, lost: this.#lost, rttUs: this.#shortestUs };
    this.#came = 0;
    this.#lost = 0;
    this.#shortestUs = null;
    return sent === 0 ? null : figures;
  }

  /** The way has gone, or was not there: what is on it measures nothing. */
  forget(): void {
    this.#out.clear();
    this.#came = 0;
    this.#lost = 0;
    this.#shortestUs = null;
  }

  // In the order in which they were sent, so the first that is not late ends it.
  #expire(nowUs: number): void {
    for (const [number, sentUs] of this.#out) {
      if (nowUs - sentUs <= LOST_AFTER_US) return;
      this.#out.delete(number);
      this.#lost += 1;
    }
  }
}
