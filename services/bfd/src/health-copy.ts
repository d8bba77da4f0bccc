// SPDX-License-Identifier: Apache-2.0
// Keeps a copy of the health in the state bucket, for controllers and people: written when NATS is there, the newest value only.

import type { State } from '@detour/bus';
import { type HealthValue, parseStateKey, stateKey } from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import type { HealthBoard, HealthNews } from './health-board.js';

const retryMs = 500;

export interface HealthCopySpec {
  readonly state: State;
  readonly gateway: string;
  readonly board: Pick<HealthBoard, 'listen' | 'settled'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Follows a board until it is disposed of. */
export class HealthCopy implements AsyncDisposable {
  readonly #spec: HealthCopySpec;
  readonly #wanted = new Map<string, HealthValue>();
  readonly #dirty = new Set<string>();
  readonly #off: readonly (() => void)[];
  #sweep = false;
  #writing: Promise<void> | null = null;
  #cancel = () => {};
  #ended = false;

  constructor(spec: HealthCopySpec) {
    this.#spec = spec;
    this.#off = [
      spec.board.listen((news) => this.#take(news)),
      spec.state.bus.onConnectionChange((connected) => {
        if (!connected) return;
        for (const key of this.#wanted.keys()) this.#dirty.add(key); // the bucket may have been lost
        this.#sweep = spec.board.settled;
        this.#kick();
      }),
    ];
  }

  #take({ complete, rows }: HealthNews): void {
    const { gateway, clock } = this.#spec;
    const named = new Set<string>();
    for (const { node, vrf, state, source, why } of rows) {
      const key = stateKey.health(gateway, node, vrf);
      named.add(key);
      const before = this.#wanted.get(key);
      if (before?.state === state && before.why === why && before.source === source) continue;
      this.#wanted.set(key, { state, source, why, atMs: clock.nowMs() });
      this.#dirty.add(key);
    }
    if (complete) {
      for (const key of this.#wanted.keys())
        if (!named.has(key) && this.#wanted.delete(key)) this.#dirty.add(key);
      this.#sweep = true;
    }
    this.#kick();
  }

  get #isDue(): boolean {
    return this.#spec.state.bus.connected && (this.#sweep || this.#dirty.size > 0);
  }

  #kick(): void {
    if (this.#writing !== null || this.#ended) return;
    this.#cancel();
    this.#writing = this.#write().then((done) => {
      this.#writing = null;
      if (this.#ended) return;
      if (!done) this.#cancel = this.#spec.clock.after(retryMs, () => this.#kick());
      else if (this.#isDue) this.#kick(); // what came in the turn in which the writing ended
    });
  }

  /** Brings the bucket in step; false when something is left to do. */
  async #write(): Promise<boolean> {
    const { state, log } = this.#spec;
    if (!state.bus.connected) return true; // the connection's return starts it again
    try {
      if (this.#sweep) await this.#markLeftovers();
      for (let [key] = this.#dirty; key !== undefined; [key] = this.#dirty) {
        this.#dirty.delete(key);
        const value = this.#wanted.get(key);
        try {
          if (value === undefined) await state.delete(key);
          else await state.put(key, value);
        } catch (error) {
          this.#dirty.add(key);
          throw error;
        }
      }
      return true;
    } catch (error) {
      log.debug({ error: describeError(error) }, 'health is not copied to the state bucket yet');
      return false;
    }
  }

  /** Keys of this gateway that no session has any more, left by a former life. */
  async #markLeftovers(): Promise<void> {
    const { state, gateway } = this.#spec;
    const { kv } = await state.session();
    for await (const key of await kv.keys('health.>')) {
      const parsed = parseStateKey(key);
      if (parsed?.kind === 'health' && parsed.gateway === gateway && !this.#wanted.has(key))
        this.#dirty.add(key);
    }
    this.#sweep = false;
  }

  /** What is written stays: the last word is in force until a new one. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    for (const off of this.#off) off();
    this.#cancel();
    await this.#writing;
  }
}
