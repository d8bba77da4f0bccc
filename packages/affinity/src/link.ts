// SPDX-License-Identifier: Apache-2.0
// One Redis connection that never makes a caller wait: it reconnects by itself, each piece of work has a budget, and a server that has
// gone silent is not waited for again until it speaks.
import { describeError, type Log } from '@detour/core';
import { Redis, type RedisOptions } from 'ioredis';
import { REPIN_LUA } from './repin-script.js';

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string };

/** ioredis with the re-pin script as a command. */
export type RedisLink = Redis & {
  detourRepin(
    key: string,
    record: string,
    ttlS: number,
    expectedGen: number,
    gen: number,
    path: number,
  ): Promise<string | null>;
};

/** Silence after which callers are answered at once, and between two probes then. */
const SILENT_MS = 100;
/** Silence after which the connection is made anew. */
const SOCKET_TIMEOUT_MS = 2_000;
const MAX_IN_FLIGHT = 50_000;

function targetOf(
  url: string,
): Pick<RedisOptions, 'path' | 'host' | 'port' | 'username' | 'password' | 'db' | 'tls'> {
  if (url.startsWith('unix:')) return { path: url.slice('unix:'.length) };
  const { hostname, port, username, password, pathname, protocol } = new URL(url);
  return {
    host: hostname,
    port: port === '' ? 6_379 : Number(port),
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(pathname.length > 1 ? { db: Number(pathname.slice(1)) } : {}),
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

export class Link implements AsyncDisposable {
  readonly counters = { ops: 0, errors: 0, timeouts: 0 };
  #redis: RedisLink;
  #log: Log;
  #url: string;
  #listeners = new Set<(connected: boolean) => void>();
  #connected = false;
  #ended = false;
  #inFlight = 0;
  /** When the oldest of an unbroken row of unanswered calls was made; null: it speaks. */
  #silentSinceMs: number | null = null;
  #probe: NodeJS.Timeout | null = null;

  constructor(url: string, log: Log) {
    this.#url = url;
    this.#log = log;
    this.#redis = new Redis({
      ...targetOf(url),
      enableOfflineQueue: false,
      enableAutoPipelining: true,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: 1_000,
      socketTimeout: SOCKET_TIMEOUT_MS,
      retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 5), 1_000),
      scripts: { detourRepin: { lua: REPIN_LUA, numberOfKeys: 1 } },
    }) as RedisLink;
    let told = false;
    this.#redis.on('ready', () => {
      told = false;
      this.#speak();
      this.#change(true);
    });
    this.#redis.on('close', () => this.#change(false));
    this.#redis.on('error', (error: unknown) => {
      if (told || this.#ended) return;
      told = true;
      log.warn(
        { redis: url, error: describeError(error) },
        'Redis cannot be used: going on without it, trying again',
      );
    });
  }

  get connected(): boolean {
    return this.#connected && this.#silentSinceMs === null;
  }

  onConnectionChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Runs `work` (which issues `size` commands); answers within `budgetMs`. */
  async run<T>(size: number, budgetMs: number, work: (redis: RedisLink) => Promise<T>): Promise<Answer<T>> {
    this.counters.ops += size;
    if (!this.#connected) return this.#fail(size, `Redis at ${this.#url} is not connected`);
    if (this.#silent()) return this.#fail(size, `Redis at ${this.#url} is silent`);
    if (this.#inFlight + size > MAX_IN_FLIGHT)
      return this.#fail(size, `${this.#inFlight} Redis commands are open`);
    this.#inFlight += size;
    const sinceMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    let lastLook: NodeJS.Immediate | undefined;
    const late = new Promise<Answer<T>>((resolve) => {
      const giveUp = () => {
        this.counters.timeouts += size;
        this.#silentSinceMs ??= sinceMs;
        this.#startProbing();
        resolve({ ok: false, why: `Redis at ${this.#url} did not answer within ${budgetMs} ms` });
      };
      // When this process was busy, the timer fires before replies that have come are read: look once more.
      timer = setTimeout(() => {
        lastLook = setImmediate(giveUp);
      }, budgetMs);
    });
    const answered = Promise.resolve()
      .then(() => work(this.#redis))
      .then(
        (value): Answer<T> => {
          this.#speak();
          return { ok: true, value };
        },
        (error: unknown): Answer<T> => this.#fail(size, `Redis at ${this.#url}: ${describeError(error)}`),
      )
      .finally(() => {
        this.#inFlight -= size;
      });
    const answer = await Promise.race([answered, late]);
    clearTimeout(timer);
    clearImmediate(lastLook);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    if (this.#probe !== null) clearTimeout(this.#probe);
    const ended = new Promise<void>((resolve) => this.#redis.once('end', () => resolve()));
    if (this.#redis.status === 'end') return;
    this.#redis.disconnect();
    await ended;
  }

  #fail(size: number, why: string): { ok: false; why: string } {
    this.counters.errors += size;
    return { ok: false, why };
  }

  #silent(): boolean {
    return this.#silentSinceMs !== null && performance.now() - this.#silentSinceMs > SILENT_MS;
  }

  #speak(): void {
    if (this.#silentSinceMs === null) return;
    const told = this.#silent();
    this.#silentSinceMs = null;
    if (told && this.#connected) this.#tell(true);
  }

  /** Asks a silent server for a sign of life until it gives one. */
  #startProbing(): void {
    if (this.#probe !== null || this.#ended) return;
    this.#probe = setTimeout(() => {
      this.#probe = null;
      if (this.#silentSinceMs === null || !this.#connected) return;
      this.#redis.ping().then(
        () => this.#speak(),
        () => {},
      );
      this.#startProbing();
    }, SILENT_MS);
  }

  #change(connected: boolean): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    if (!this.#ended) this.#tell(connected);
  }

  #tell(connected: boolean): void {
    if (connected) this.#log.info({ redis: this.#url }, 'Redis answers');
    for (const listener of [...this.#listeners]) listener(connected);
  }
}
