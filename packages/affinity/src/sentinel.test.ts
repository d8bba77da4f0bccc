// SPDX-License-Identifier: Apache-2.0
// A master that sentinels replace while pins are asked for and written: frozen, and killed.
import { silentLog } from '@detour/core';
import { askRedis, type RedisSentinel, startRedisSentinel, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Affinity, openAffinity } from './affinity.js';
import { granted, lookUpOne, pin } from './testdata.js';

const BUDGET_MS = 50;
const LONG = { timeoutMs: 30_000 };
let sentinel: RedisSentinel;
let affinity: Affinity;
let told: boolean[];

beforeEach(async () => {
  sentinel = await startRedisSentinel();
  affinity = openAffinity({ url: sentinel.url, log: silentLog, budgetMs: BUDGET_MS });
  told = [];
  await until(() => affinity.connected, LONG);
  affinity.onConnectionChange((connected) => told.push(connected));
}, 60_000);
afterEach(async () => {
  await affinity[Symbol.asyncDispose]();
  await sentinel[Symbol.asyncDispose]();
});

const record = async (key: string) => (await affinity.lookOrCreate([{ key, record: pin(5), ttlS: 600 }]))[0];

describe('while sentinels replace a master', () => {
  it.each(['pause', 'kill'] as const)(
    '%s: every call ends in time, and the new master has the pins',
    async (how) => {
      granted(await record('before'));
      const old = await sentinel.master();
      await until(async () => (await askRedis(old.url, 'WAIT', '1', '1000')) === '1', LONG);
      const replica = sentinel.servers.find((server) => server !== old) ?? expect.fail();
      await until(async () => (await askRedis(replica.url, 'EXISTS', 'before')) === '1', LONG);
      await old[how]();
      let calls = 0;
      let longestMs = 0;
      const again = await until(async () => {
        const beganMs = performance.now();
        const answer = await record(`during-${calls++}`);
        longestMs = Math.max(longestMs, performance.now() - beganMs);
        return answer?.ok === true ? calls : null;
      }, LONG);
      expect(again).toBeGreaterThan(5);
      expect(longestMs).toBeLessThan(BUDGET_MS + 500);
      expect(affinity.counters.unrecorded).toBe(again - 1); // each that was not recorded is counted
      expect(granted(await lookUpOne(affinity, 'before'))).toEqual(pin(5));
      await until(() => told.at(-1) === true, LONG);
      expect(told[0]).toBe(false);
      // The old one comes back, thinks that it is master, and is made a replica: nobody falls back to it
      if (how === 'pause') old.resume();
      else await old.start();
      const now = await sentinel.failedOver(old);
      await until(async () => (await askRedis(old.url, 'ROLE')).startsWith('slave'), LONG);
      granted(await record('after'));
      expect(await askRedis(now.url, 'EXISTS', 'after')).toBe('1');
    },
    90_000,
  );
});
