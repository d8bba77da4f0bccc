// SPDX-License-Identifier: Apache-2.0
// The whole state bucket in memory. A watch lives on one connection only: after every loss, and whenever the server's stream and the
// mirror drift apart, a new snapshot is taken and the differences are emitted, so that no listener ever misses a deletion.
import { describeError } from '@detour/core';
import type { KvWatchEntry } from '@nats-io/kv';
import { parseJson, type State, type StateEntry } from './state.js';

export interface StateChange {
  readonly key: string;
  /** null: did not exist. */
  readonly before: StateEntry | null;
  /** null: deleted. */
  readonly after: StateEntry | null;
}

/** What one turn of the event loop (or one re-sync) changed. */
export interface StateBatch {
  readonly epoch: string;
  /** The bucket was made anew since the last batch (true on the first one too). */
  readonly epochChanged: boolean;
  /** This is the difference between what was held and a new snapshot. */
  readonly resynced: boolean;
  readonly sequence: bigint;
  readonly changes: readonly StateChange[];
}

interface Held {
  readonly entry: StateEntry | null; // null: a deletion marker
  readonly revision: bigint;
}

const CHECK_MS = 2_000;
/** Checks in a row at which the stream is gone, or ahead of the mirror, before it takes a new snapshot. */
const MAX_LATE_CHECKS = 3;
const RETRY_MS = 250;

export class StateMirror implements AsyncDisposable {
  /** Resolves with the first complete snapshot; rejects when the bus closes first. */
  readonly caughtUp: Promise<void>;
  #held = new Map<string, Held>();
  #epoch = '';
  #sequence = 0n;
  #live = false;
  #listeners = new Set<(batch: StateBatch) => void>();
  #pending: StateChange[] = [];
  #scheduled = false;
  #state: State;
  #life = new AbortController();
  #signal: AbortSignal;
  #running: Promise<void>;
  #aborted: Promise<void>;
  #firstSync: () => void = () => {};

  constructor(state: State) {
    this.#state = state;
    this.#signal = AbortSignal.any([state.bus.signal, this.#life.signal]);
    this.caughtUp = new Promise((resolve, reject) => {
      this.#firstSync = resolve;
      if (this.#signal.aborted) reject(this.#signal.reason);
      this.#signal.addEventListener('abort', () => reject(this.#signal.reason));
    });
    this.caughtUp.catch(() => {}); // whoever awaits it is told; nobody has to
    this.#aborted = new Promise((resolve) => this.#signal.addEventListener('abort', () => resolve()));
    this.#running = this.#run();
  }

  /** '' before the first snapshot. */
  get epoch(): string {
    return this.#epoch;
  }
  /** Stream sequence of the last change seen. */
  get sequence(): bigint {
    return this.#sequence;
  }
  /** Whether a watch is running; if not, what is held is the last known. */
  get live(): boolean {
    return this.#live;
  }
  get(key: string): StateEntry | null {
    return this.#held.get(key)?.entry ?? null;
  }
  /** Live entries whose key begins with `prefix`, by key. */
  entries(prefix = ''): StateEntry[] {
    const found: StateEntry[] = [];
    for (const [key, { entry }] of this.#held)
      if (entry !== null && key.startsWith(prefix)) found.push(entry);
    return found.sort((x, y) => (x.key < y.key ? -1 : 1));
  }
  keys(prefix = ''): string[] {
    return this.entries(prefix).map((entry) => entry.key);
  }
  /** Highest sequence among keys with one of `prefixes`, deletions included: the same for every replica that has seen the same writes. */
  version(prefixes: readonly string[]): bigint {
    let highest = 0n;
    for (const [key, { revision }] of this.#held) {
      if (revision > highest && prefixes.some((prefix) => key.startsWith(prefix))) highest = revision;
    }
    return highest;
  }
  /** Calls `listener` with each batch from now on; the returned function ends that. */
  onChange(listener: (batch: StateBatch) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#life.abort(new Error('the mirror is closed'));
    await this.#running;
  }

  async #run(): Promise<void> {
    let told = '';
    while (!this.#signal.aborted) {
      try {
        await Promise.race([this.#state.bus.whenConnected(), this.#aborted]);
        if (!this.#signal.aborted) await this.#watch();
        told = '';
      } catch (error) {
        const why = describeError(error);
        if (why !== told && !this.#signal.aborted) {
          this.#state.bus.log.warn({ error: why }, 'cannot watch the state bucket: trying again');
        }
        told = why;
        this.#state.invalidate();
      }
      this.#live = false;
      const pause = new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (!this.#signal.aborted) await Promise.race([pause, this.#aborted]);
    }
  }

  /** One watch, from snapshot to its end. */
  async #watch(): Promise<void> {
    const { kv, jsm, stream, epoch } = await this.#state.session();
    const info = await jsm.streams.info(stream);
    const watch = await kv.watch();
    const stop = () => watch.stop();
    let snapshot: Map<string, Held> | null = new Map();
    let lateChecks = 0;
    const check = async () => {
      const now = await jsm.streams.info(stream).catch(() => null);
      const behind = now === null || snapshot !== null || BigInt(now.state.last_seq) > this.#sequence;
      lateChecks = behind ? lateChecks + 1 : 0;
      if ((now !== null && String(now.created) !== epoch) || lateChecks >= MAX_LATE_CHECKS) {
        this.#state.invalidate();
        stop();
      }
    };
    const timer = setInterval(() => void check(), CHECK_MS);
    const off = this.#state.bus.onConnectionChange(stop);
    this.#signal.addEventListener('abort', stop);
    try {
      if (this.#signal.aborted || !this.#state.bus.connected) return;
      if (info.state.messages === 0) {
        this.#replace(epoch, snapshot);
        snapshot = null;
      }
      for await (const message of watch) {
        const held = this.#read(message);
        if (snapshot === null) {
          this.#update(message.key, held);
          continue;
        }
        snapshot.set(message.key, held);
        if (message.isUpdate) {
          this.#replace(epoch, snapshot);
          snapshot = null;
        }
      }
    } finally {
      this.#live = false;
      clearInterval(timer);
      off();
      this.#signal.removeEventListener('abort', stop);
      this.#flush();
      watch.stop();
    }
  }

  #read(message: KvWatchEntry): Held {
    const revision = BigInt(message.revision);
    if (message.operation !== 'PUT') return { entry: null, revision };
    return { entry: { key: message.key, value: parseJson(message.value), revision }, revision };
  }

  /** Takes a snapshot and emits how it differs from what was held. */
  #replace(epoch: string, snapshot: Map<string, Held>): void {
    this.#flush();
    const epochChanged = epoch !== this.#epoch;
    const changes: StateChange[] = [];
    for (const [key, { entry: after, revision }] of snapshot) {
      const before = this.#held.get(key);
      if (!epochChanged && before?.revision === revision) continue;
      if (before?.entry || after) changes.push({ key, before: before?.entry ?? null, after });
    }
    for (const [key, { entry: before }] of this.#held) {
      if (before !== null && !snapshot.has(key)) changes.push({ key, before, after: null });
    }
    this.#held = snapshot;
    this.#epoch = epoch;
    this.#sequence = 0n;
    for (const { revision } of snapshot.values()) if (revision > this.#sequence) this.#sequence = revision;
    this.#live = true;
    this.#emit({ epoch, epochChanged, resynced: true, sequence: this.#sequence, changes });
    this.#firstSync();
  }

  #update(key: string, held: Held): void {
    const before = this.#held.get(key)?.entry ?? null;
    this.#held.set(key, held);
    if (held.revision > this.#sequence) this.#sequence = held.revision;
    if (before === null && held.entry === null) return;
    this.#pending.push({ key, before, after: held.entry });
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#pending.length === 0) return;
    const changes = this.#pending;
    this.#pending = [];
    this.#emit({
      epoch: this.#epoch,
      epochChanged: false,
      resynced: false,
      sequence: this.#sequence,
      changes,
    });
  }

  #emit(batch: StateBatch): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(batch);
      } catch (error) {
        this.#state.bus.log.error({ error: describeError(error) }, 'a listener of the state bucket failed');
      }
    }
  }
}
