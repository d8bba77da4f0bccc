// SPDX-License-Identifier: Apache-2.0
// Many commands to one server in one pipeline, with one promise for all: ioredis makes several promises for each command that is called on
// its own. What the server could not do because the key's slot moves, or because it does not have the script, is asked again by itself.
import { createHash } from 'node:crypto';
import { Fault } from '@detour/core';
import type { ChainableCommander } from 'ioredis';
import { type RedisClient, sendAlone } from './client.js';
import { REPIN_LUA } from './repin-script.js';

export type Reply = string | number | null;

/** What takes commands: the connection itself, a pipeline of it, or one that sends each by itself. */
export interface Commands<Result> {
  get(key: string): Result;
  set(key: string, value: string, ex: 'EX', ttlS: number, nx: 'NX', get: 'GET'): Result;
  expire(key: string, ttlS: number, mode: 'GT'): Result;
  unlink(key: string): Result;
  evalsha(sha: string, keys: 1, key: string, ...args: (string | number)[]): Result;
}

export const REPIN_SHA = createHash('sha1').update(REPIN_LUA).digest('hex');
const ASK_AGAIN = /^(MOVED|ASK|TRYAGAIN|NOSCRIPT) /;

/** One or more commands per item; what each was answered or refused with, in their order. @throws when nothing could be sent */
export async function inOneGo<T>(
  redis: RedisClient,
  items: readonly T[],
  command: <Result>(to: Commands<Result>, item: T) => Result,
): Promise<(Reply | Error)[]> {
  const replies = await pipelined(redis, items, command);
  const again = replies.flatMap((reply, i) =>
    reply instanceof Error && ASK_AGAIN.test(reply.message) ? [i] : [],
  );
  if (again.length === 0) return replies;
  const alone = eachAlone(redis);
  await Promise.all(
    again.map(async (i) => {
      const item = items[i];
      if (item !== undefined) replies[i] = await command(alone, item).catch(errorOf);
    }),
  );
  return replies;
}

async function pipelined<T>(
  redis: RedisClient,
  items: readonly T[],
  command: <Result>(to: Commands<Result>, item: T) => Result,
): Promise<(Reply | Error)[]> {
  const [only] = items;
  // Alone: it shares a pipeline with whoever else asks in this turn of the event loop
  if (only !== undefined && items.length === 1)
    return [await command<Promise<unknown>>(redis, only).then(replyOf, errorOf)];
  const pipeline = redis.pipeline();
  for (const item of items) command<ChainableCommander>(pipeline, item);
  const replies = (await pipeline.exec()) ?? [];
  if (replies.length !== items.length)
    throw new Fault('internal', `Redis gave ${replies.length} replies to ${items.length} commands`);
  return replies.map(([error, reply]) => error ?? replyOf(reply));
}

function eachAlone(redis: RedisClient): Commands<Promise<Reply>> {
  const send = (name: string, args: (string | number)[]) =>
    sendAlone(redis, name, args).then(replyOf) as Promise<Reply>;
  return {
    get: (...args) => send('get', args),
    set: (...args) => send('set', args),
    expire: (...args) => send('expire', args),
    unlink: (...args) => send('unlink', args),
    evalsha: (_sha, ...args) => send('eval', [REPIN_LUA, ...args]),
  };
}

function replyOf(reply: unknown): Reply | Error {
  if (reply === null || typeof reply === 'string' || typeof reply === 'number') return reply;
  return new Fault('internal', `Redis answered ${typeof reply} where a text or a number was expected`);
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Fault('internal', String(error));
}
