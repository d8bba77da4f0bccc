// SPDX-License-Identifier: Apache-2.0
/** Tells loss, duplication, reordering and outages of a numbered stream apart; pure. */
import type { UdpOutage, UdpReport } from './protocol.js';

const reportedOutages = 100;

export class UdpTally {
  /** When each number was sent. */
  readonly #sentMs: number[] = [];
  readonly #seen: boolean[] = [];
  /** Highest number received per flow. */
  readonly #highest = new Map<number, number>();
  #received = 0;
  #duplicated = 0;
  #reordered = 0;

  /** @returns the number of this packet. */
  send(nowMs: number): number {
    this.#sentMs.push(nowMs);
    return this.#sentMs.length - 1;
  }

  receive(sequence: number, flow: number): void {
    if (sequence >= this.#sentMs.length) return; // not ours
    if (this.#seen[sequence]) {
      this.#duplicated += 1;
      return;
    }
    this.#seen[sequence] = true;
    this.#received += 1;
    const highest = this.#highest.get(flow) ?? -1;
    if (sequence < highest) this.#reordered += 1;
    else this.#highest.set(flow, sequence);
  }

  report(): Omit<UdpReport, 'receiveBufferErrors'> {
    const sent = this.#sentMs.length;
    return {
      sent,
      received: this.#received,
      lost: sent - this.#received,
      duplicated: this.#duplicated,
      reordered: this.#reordered,
      outages: this.#outages()
        .sort((a, b) => b.lenMs - a.lenMs)
        .slice(0, reportedOutages),
    };
  }

  #outages(): UdpOutage[] {
    const outages: UdpOutage[] = [];
    const total = this.#sentMs.length;
    for (let at = 0; at < total; at += 1) {
      if (this.#seen[at]) continue;
      let end = at;
      while (end < total && !this.#seen[end]) end += 1;
      const startMs = this.#at(at === 0 ? 0 : at - 1);
      outages.push({ lost: end - at, startMs, lenMs: this.#at(Math.min(end, total - 1)) - startMs });
      at = end;
    }
    return outages;
  }

  #at(sequence: number): number {
    return this.#sentMs[sequence] ?? Number.NaN;
  }
}
