// SPDX-License-Identifier: Apache-2.0
// Many commands in one pipeline, with one promise for all: ioredis makes several promises for each command that is called on its own.
import { Fault } from '@detour/core';
import type { ChainableCommander } from 'ioredis';
import type { RedisLink } from './link.js';

/** What takes commands: the connection itself, or a pipeline of it. */
interface Commands<Result> {
  get(key: string): Result;
  set(key: string, value: string, ex: 'EX', ttlS: number, nx: 'NX', get: 'GET'): Result;
}

/** One command per item; the replies in their order. @throws what the first refused command was refused with. */
export async function inOneGo<T>(
  redis: RedisLink,
  items: readonly T[],
  command: <Result>(to: Commands<Result>, item: T) => Result,
): Promise<(string | null)[]> {
  const [only] = items;
  // Alone: it shares a pipeline with whoever else asks in this turn of the event loop
  if (only !== undefined && items.length === 1) return [await command<Promise<string | null>>(redis, only)];
  const pipeline = redis.pipeline();
  for (const item of items) command<ChainableCommander>(pipeline, item);
  const replies = (await pipeline.exec()) ?? [];
  if (replies.length !== items.length)
    throw new Fault('internal', `Redis gave ${replies.length} replies to ${items.length} commands`);
  return replies.map(([error, reply]) => {
    if (error !== null) throw error;
    if (reply !== null && typeof reply !== 'string')
      throw new Fault('internal', `Redis answered ${typeof reply} where a text was expected`);
    return reply;
  });
}
