// SPDX-License-Identifier: Apache-2.0
// The ioredis client for each way in which Redis is run, and which of its servers a key belongs to.
import type { RedisTarget } from '@detour/core';
import { Cluster, Command, Redis, type RedisOptions } from 'ioredis';
import { keySlot } from './key-slot.js';

/** Silence after which a connection is made anew. */
const SOCKET_TIMEOUT_MS = 2_000;
const CONNECT_TIMEOUT_MS = 1_000;
/** Sentinels and cluster members are asked again who is master. */
const LOOK_AGAIN_MS = 1_000;

const retryDelayMs = (times: number) => Math.min(50 * 2 ** Math.min(times, 5), 1_000);

/** A connection, or one to each server of a cluster. Nothing waits in it, and nothing is sent twice behind a caller's back. */
export type RedisClient = Redis | Cluster;

export function openClient(target: RedisTarget): RedisClient {
  const common = {
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    ...(target.tls ? { tls: {} } : {}),
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    retryStrategy: retryDelayMs,
  } satisfies RedisOptions;
  switch (target.kind) {
    case 'standalone':
      return new Redis({ ...common, ...target.at, db: target.db });
    case 'sentinel':
      return new Redis({
        ...common,
        sentinels: target.sentinels.map(({ host, port }) => ({ host, port })),
        name: target.name,
        ...(target.tls ? { sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
        sentinelRetryStrategy: retryDelayMs,
        sentinelReconnectStrategy: retryDelayMs,
        sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
        failoverDetector: true,
        // A master that was made a replica: ask the sentinels again.
        reconnectOnError: (error) => error.message.startsWith('READONLY'),
      });
    case 'cluster': {
      const { retryStrategy: _, enableOfflineQueue: __, enableAutoPipelining: ___, ...redisOptions } = common;
      return new Cluster(
        target.nodes.map(({ host, port }) => ({ host, port })),
        {
          redisOptions,
          enableOfflineQueue: false,
          enableAutoPipelining: true,
          clusterRetryStrategy: retryDelayMs,
          slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
          slotsRefreshInterval: LOOK_AGAIN_MS,
        },
      );
    }
  }
}

/** All commands of one pipeline go to one server: '' where there is only one, else those that have the key's slot, the master first. */
export function serverOf(client: RedisClient, key: string): string {
  if (!(client instanceof Cluster)) return '';
  return client.slots[keySlot(key)]?.join(' ') ?? 'nobody';
}

/** One command outside of any pipeline: ioredis follows a slot that moves (MOVED, ASK, TRYAGAIN) for such a one alone. */
export function sendAlone(client: RedisClient, name: string, args: (string | number)[]): Promise<unknown> {
  const command = new Command(name, args, { replyEncoding: 'utf8' });
  client.sendCommand(command);
  return command.promise;
}
