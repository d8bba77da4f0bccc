// SPDX-License-Identifier: Apache-2.0
// Redis as one thing that never makes a caller wait: it reconnects by itself, each piece of work has a budget, and a server that has gone
// silent is not waited for again until it speaks. In a cluster each server is judged by itself, and so is each key's answer.
import { describeError, Fault, type Log, parseRedisTarget } from '@detour/core';
import { Cluster } from 'ioredis';
import { openClient, type RedisClient, serverOf } from './client.js';
import { type Commands, inOneGo, type Reply } from './one-go.js';
import type { ServerState } from './server-state.js';
import { Servers } from './servers.js';

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  /** `refused`: Redis answers, and does not do this. */
  | { readonly ok: false; readonly why: string; readonly refused?: true };

/** Commands of one kind, one for each item. */
export interface Work<Item, T> {
  readonly budgetMs: number;
  readonly writes: boolean;
  readonly keyOf: (item: Item) => string;
  readonly command: <Result>(to: Commands<Result>, item: Item) => Result;
  readonly read: (reply: Reply, item: Item) => T;
}

const MAX_IN_FLIGHT = 50_000;

export class Link implements AsyncDisposable {
  readonly counters = { ops: 0, errors: 0, timeouts: 0 };
  readonly servers: Servers;
  readonly #redis: RedisClient;
  readonly #at: string;
  #inFlight = 0;

  /** @throws Fault `invalid` when the text does not say where Redis is */
  constructor(url: string, log: Log) {
    const target = parseRedisTarget(url);
    if (!target.ok) throw new Fault('invalid', `where Redis is cannot be read: give ${target.why}`);
    this.#at = target.value.shown;
    this.#redis = openClient(target.value);
    this.servers = new Servers({ redis: this.#redis, at: this.#at, log });
  }

  /** An answer for each item, in their order, all within the budget. */
  async each<Item, T>(items: readonly Item[], work: Work<Item, T>): Promise<Answer<T>[]> {
    this.counters.ops += items.length;
    if (!this.servers.isReady) return this.#cannot(items.length, `Redis at ${this.#at} is not connected`);
    if (this.#inFlight + items.length > MAX_IN_FLIGHT)
      return this.#cannot(items.length, `${this.#inFlight} Redis commands are open`);
    if (!(this.#redis instanceof Cluster)) return this.#ask('', items, work);
    const answers = new Array<Answer<T>>(items.length);
    const ask = async ([server, share]: [string, Share<Item>]): Promise<void> => {
      const given = await this.#ask(server, share.items, work);
      for (const [i, at] of share.at.entries()) answers[at] = given[i] ?? NOTHING;
    };
    await Promise.all([...this.#sharesOf(items, work.keyOf)].map(ask));
    return answers;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.servers[Symbol.dispose]();
    const ended = new Promise<void>((resolve) => this.#redis.once('end', () => resolve()));
    const { status } = this.#redis;
    if (status === 'end') return;
    this.#redis.disconnect();
    // Between two attempts nothing is open: ioredis gives the next one up and says nothing of an end.
    if (status !== 'reconnecting') await ended;
  }

  /** What goes to each server: a pipeline takes commands of one alone. */
  #sharesOf<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Share<Item>> {
    const shares = new Map<string, Share<Item>>();
    for (const [i, item] of items.entries()) {
      const server = serverOf(this.#redis, keyOf(item));
      const share = shares.get(server) ?? { items: [], at: [] };
      if (share.at.length === 0) shares.set(server, share);
      share.items.push(item);
      share.at.push(i);
    }
    return shares;
  }

  async #ask<Item, T>(name: string, items: readonly Item[], work: Work<Item, T>): Promise<Answer<T>[]> {
    const [first] = items;
    if (first === undefined) return [];
    const server = this.servers.of(name);
    const size = items.length;
    const askedMs = performance.now();
    if (server.isSilent(askedMs)) return this.#cannot(size, `Redis at ${this.#at} is silent`);
    this.#inFlight += size;
    let timer: NodeJS.Timeout | undefined;
    let lastLook: NodeJS.Immediate | undefined;
    const late = new Promise<Answer<T>[]>((resolve) => {
      const giveUp = () => {
        const why = `did not answer within ${work.budgetMs} ms`;
        this.counters.timeouts += size;
        this.servers.unanswered(server, { askedMs, key: work.keyOf(first), why });
        resolve(new Array<Answer<T>>(size).fill({ ok: false, why: `Redis at ${this.#at} ${why}` }));
      };
      // When this process was busy, the timer fires before replies that have come are read: look once more.
      timer = setTimeout(() => {
        lastLook = setImmediate(giveUp);
      }, work.budgetMs);
    });
    const answered = Promise.resolve()
      .then(() => inOneGo(this.#redis, items, work.command))
      .then(
        (replies) => this.#read(server, { items, replies, askedMs }, work),
        (error: unknown) => {
          const why = describeError(error);
          this.servers.unanswered(server, { askedMs, key: work.keyOf(first), why });
          return this.#cannot<T>(size, `Redis at ${this.#at}: ${why}`);
        },
      )
      .finally(() => {
        this.#inFlight -= size;
      });
    const answers = await Promise.race([answered, late]);
    clearTimeout(timer);
    clearImmediate(lastLook);
    return answers;
  }

  #read<Item, T>(server: ServerState, got: Got<Item>, work: Work<Item, T>): Answer<T>[] {
    const seen: { done?: true; refused?: Error; unsent?: Error; key?: string } = {};
    const answers = got.items.map((item, i): Answer<T> => {
      const reply = got.replies[i] ?? null;
      if (!(reply instanceof Error)) {
        seen.done = true;
        return { ok: true, value: work.read(reply, item) };
      }
      seen.key ??= work.keyOf(item);
      this.counters.errors += 1;
      const why = `Redis at ${this.#at}: ${describeError(reply)}`;
      if (reply.name !== 'ReplyError') {
        seen.unsent ??= reply;
        return { ok: false, why };
      }
      seen.refused ??= reply;
      return { ok: false, why, refused: true };
    });
    const { done, refused, unsent, key = '' } = seen;
    if (done || refused !== undefined) server.spoke();
    else if (unsent !== undefined)
      this.servers.unanswered(server, { askedMs: got.askedMs, key, why: unsent.message });
    if (refused !== undefined) this.servers.refused(server, refused, key);
    else if (work.writes && done) this.servers.wrote(server);
    return answers;
  }

  #cannot<T>(size: number, why: string): Answer<T>[] {
    this.counters.errors += size;
    return new Array<Answer<T>>(size).fill({ ok: false, why });
  }
}

interface Share<Item> {
  readonly items: Item[];
  /** Positions of the items in what was asked. */
  readonly at: number[];
}

interface Got<Item> {
  readonly items: readonly Item[];
  readonly replies: readonly (Reply | Error)[];
  readonly askedMs: number;
}

const NOTHING = { ok: false, why: 'Redis gave no reply' } as const;
