// SPDX-License-Identifier: Apache-2.0
// Which instance to use: rendezvous hash (highest random weight), leaving alone for a while those that failed.
import { createHash } from 'node:crypto';

/** `addresses` in the order in which `key` prefers them; every address set orders the rest the same way. */
export function rankInstances(key: string, addresses: readonly string[]): string[] {
  const weigh = (address: string) => createHash('sha256').update(`${key}\0${address}`).digest('hex');
  return [...new Set(addresses)]
    .map((address) => ({ address, weight: weigh(address) }))
    .sort((x, y) => (x.weight < y.weight ? 1 : -1))
    .map(({ address }) => address);
}

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 2_000;

/** Remembers who failed when. Times are monotonic milliseconds. */
export class InstanceChoice {
  #failed = new Map<string, { untilMs: number; backoffMs: number }>();

  /** The preferred address that is not left alone at `nowMs`; null when there is none. */
  choose(key: string, addresses: readonly string[], nowMs: number): string | null {
    for (const address of [...this.#failed.keys()]) {
      if (!addresses.includes(address)) this.#failed.delete(address);
    }
    const free = addresses.filter((address) => (this.#failed.get(address)?.untilMs ?? 0) <= nowMs);
    return rankInstances(key, free)[0] ?? null;
  }

  failed(address: string, nowMs: number): void {
    const backoffMs = Math.min(
      (this.#failed.get(address)?.backoffMs ?? FIRST_BACKOFF_MS / 2) * 2,
      LONGEST_BACKOFF_MS,
    );
    this.#failed.set(address, { untilMs: nowMs + backoffMs, backoffMs });
  }

  worked(address: string): void {
    this.#failed.delete(address);
  }
}
