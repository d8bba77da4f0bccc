// SPDX-License-Identifier: Apache-2.0
// What is known of the servers behind one Redis client, and who is told of it: unreachable or late for a second, refusing writes, in order
// again. Servers in trouble are asked until they are in order.
import { redisProbeKey } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import { Cluster } from 'ioredis';
import { type RedisClient, sendAlone } from './client.js';
import { ServerState, SILENT_MS } from './server-state.js';

export interface ServersOptions {
  readonly redis: RedisClient;
  /** Where Redis is, without user and password. */
  readonly at: string;
  readonly log: Log;
}

type ConnectionListener = (connected: boolean, why: string) => void;
type RefusalListener = (why: string | null) => void;

export class Servers implements Disposable {
  private readonly states = new Map<string, ServerState>();
  private readonly connectionListeners = new Set<ConnectionListener>();
  private readonly refusalListeners = new Set<RefusalListener>();
  private ready = false;
  private toldConnected = false;
  private toldRefusal = false;
  private ended = false;
  private probe: NodeJS.Timeout | null = null;

  constructor(private readonly options: ServersOptions) {
    const { redis, at, log } = options;
    let warned = false;
    redis.on('ready', () => {
      warned = false;
      this.ready = true;
      for (const state of this.states.values()) state.reconnected();
      this.tell(true, '');
    });
    redis.on('close', () => {
      this.ready = false;
      this.tell(false, `Redis at ${at} is not connected`);
    });
    redis.on('error', (error: unknown) => {
      if (warned || this.ended) return;
      warned = true;
      log.warn(
        { redis: at, error: describeError(error) },
        'Redis cannot be used: going on without it, trying again',
      );
    });
  }

  get isReady(): boolean {
    return this.ready;
  }

  /** All of them answer. */
  get connected(): boolean {
    const nowMs = performance.now();
    return this.ready && ![...this.states.values()].some((state) => state.isSilent(nowMs));
  }

  /** What a server refuses writes with; null: none does. */
  get refuses(): string | null {
    for (const { refuses } of this.states.values()) if (refuses !== null) return refuses;
    return null;
  }

  onConnectionChange(listener: ConnectionListener): () => void {
    this.connectionListeners.add(listener);
    return () => this.connectionListeners.delete(listener);
  }

  onRefusalChange(listener: RefusalListener): () => void {
    this.refusalListeners.add(listener);
    return () => this.refusalListeners.delete(listener);
  }

  of(name: string): ServerState {
    const known = this.states.get(name);
    if (known !== undefined) return known;
    const made = new ServerState();
    this.states.set(name, made);
    return made;
  }

  unanswered(server: ServerState, call: { askedMs: number; key: string; why: string }): void {
    server.unanswered(call);
    this.startProbing();
  }

  refused(server: ServerState, error: Error, key: string): void {
    server.refused(error, key, performance.now());
    if (server.refuses === null) return;
    this.tellRefusal();
    this.startProbing();
  }

  wrote(server: ServerState): void {
    if (server.refuses === null) return;
    server.wrote();
    this.tellRefusal();
  }

  [Symbol.dispose](): void {
    this.ended = true;
    if (this.probe !== null) clearTimeout(this.probe);
  }

  private startProbing(): void {
    if (this.probe !== null || this.ended) return;
    this.probe = setTimeout(() => {
      this.probe = null;
      if (this.probeAll()) this.startProbing();
    }, SILENT_MS);
  }

  /** Whether any is not in order. */
  private probeAll(): boolean {
    const nowMs = performance.now();
    for (const [name, state] of this.states) {
      if (!state.inTrouble && state.refuses === null) {
        if (name !== '') this.states.delete(name); // of a cluster, where others may serve its slots by now
        continue;
      }
      if (this.ready && state.inTrouble) this.askWhetherAlive(state, nowMs);
      if (this.ready && state.takeRefusalProbe(nowMs)) this.askWhetherWritable(state);
      if (state.isWorthTelling(nowMs)) this.tell(false, `Redis at ${this.options.at}: ${state.why}`);
    }
    return [...this.states.values()].some((state) => state.inTrouble || state.refuses !== null);
  }

  private askWhetherAlive(state: ServerState, askedMs: number): void {
    const { redis } = this.options;
    if (redis instanceof Cluster) redis.refreshSlotsCache();
    sendAlone(redis, 'get', [state.probeKey]).then(
      () => {
        state.probed(performance.now() - askedMs);
        if (this.ready && ![...this.states.values()].some((one) => one.inTrouble)) this.tell(true, '');
      },
      () => {}, // it is asked again
    );
  }

  /** Writes beside a key that could not be written, to the same slot; gone in a second. */
  private askWhetherWritable(state: ServerState): void {
    sendAlone(this.options.redis, 'set', [redisProbeKey(state.probeKey), '', 'PX', 1_000]).then(
      () => this.wrote(state),
      (error: unknown) => {
        if (error instanceof Error) state.refused(error, state.probeKey, performance.now());
      },
    );
  }

  private tell(connected: boolean, why: string): void {
    if (this.toldConnected === connected || this.ended) return;
    this.toldConnected = connected;
    if (connected) this.options.log.info({ redis: this.options.at }, 'Redis answers');
    for (const listener of [...this.connectionListeners]) listener(connected, why);
  }

  private tellRefusal(): void {
    const why = this.refuses;
    if ((why !== null) === this.toldRefusal || this.ended) return;
    this.toldRefusal = why !== null;
    const { at, log } = this.options;
    if (why === null) log.info({ redis: at }, 'Redis takes writes again');
    else log.warn({ redis: at, error: why }, 'Redis refuses writes');
    for (const listener of [...this.refusalListeners]) listener(why);
  }
}
