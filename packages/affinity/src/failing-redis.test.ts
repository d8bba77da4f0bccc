// SPDX-License-Identifier: Apache-2.0
// One real redis-server that is stopped, restarted and frozen.
import { silentLog } from '@detour/core';
import { askRedis, type RedisServer, startRedis, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Affinity, type AffinitySpec, openAffinity } from './affinity.js';
import { granted, lookUpOne, pin } from './testdata.js';

let server: RedisServer;
const opened: Affinity[] = [];
const open = async (overrides: Partial<AffinitySpec> = {}) => {
  const affinity = openAffinity({ url: server.url, log: silentLog, budgetMs: 1_000, ...overrides });
  opened.push(affinity);
  await until(() => affinity.connected);
  return affinity;
};

beforeEach(async () => {
  server = await startRedis();
});
afterEach(async () => {
  for (const affinity of opened.splice(0)) await affinity[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe('when Redis fails', () => {
  it('answers at once while it is absent from the start, and uses it once it is there', async () => {
    await server.stop();
    const affinity = openAffinity({ url: server.url, log: silentLog });
    opened.push(affinity);
    const since = performance.now();
    const [answer] = await affinity.lookOrCreate([{ key: 'a', record: pin(1), ttlS: 60 }]);
    expect(answer).toMatchObject({ ok: false, why: expect.stringContaining(server.url) });
    expect(performance.now() - since).toBeLessThan(50);
    expect(affinity.counters).toMatchObject({ ops: 1, errors: 1, unrecorded: 1 });
    await server.start();
    await until(() => affinity.connected);
    await until(async () => (await lookUpOne(affinity, 'a')).ok);
  });

  it('ends while Redis is away, and does not come back with it', async () => {
    for (const awayMs of [0, 100, 700]) {
      const affinity = openAffinity({ url: server.url, log: silentLog });
      await until(() => affinity.connected);
      await server.stop();
      await until(() => !affinity.connected);
      await new Promise((resolve) => setTimeout(resolve, awayMs)); // at one of its attempts, or between two
      await affinity[Symbol.asyncDispose]();
      await server.start();
      await new Promise((resolve) => setTimeout(resolve, 1_200)); // longer than between any two attempts
      const clients = (await askRedis(server.url, 'CLIENT', 'LIST')).trim().split('\n');
      expect(clients).toHaveLength(1);
    }
  });

  it('goes on by itself after a restart', async () => {
    const affinity = await open();
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]);
    await server.kill();
    await until(() => !affinity.connected);
    expect((await lookUpOne(affinity, 'a')).ok).toBe(false);
    await server.start();
    await until(async () => (await lookUpOne(affinity, 'a')).ok);
    expect(granted(await lookUpOne(affinity, 'a'))).toEqual(pin(5));
    await server.restart('empty');
    await until(async () => {
      const answer = await lookUpOne(affinity, 'a');
      return answer.ok && answer.value === null;
    });
    expect(seen.slice(0, 2)).toEqual([false, true]);
    expect(
      granted(await affinity.repin({ key: 'a', expectedGen: 1, record: pin(6, 2), ttlS: 60 })).written,
    ).toBe(true);
  });

  it('keeps its budget while it is frozen, then answers at once, and recovers', async () => {
    const affinity = await open({ budgetMs: 20 });
    expect((await lookUpOne(affinity, 'a')).ok).toBe(true);
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    await server.pause();
    const since = performance.now();
    expect((await lookUpOne(affinity, 'a')).ok).toBe(false);
    expect(performance.now() - since).toBeLessThan(100);
    expect(affinity.counters.timeouts).toBe(1);
    await until(async () => {
      const answer = await lookUpOne(affinity, 'a');
      return !answer.ok && /silent|not connected/.test(answer.why);
    });
    const quick = performance.now();
    for (let i = 0; i < 100; i++) expect((await lookUpOne(affinity, 'a')).ok).toBe(false);
    expect(performance.now() - quick).toBeLessThan(100); // a hundred budgets would be two seconds
    server.resume();
    await until(async () => (await lookUpOne(affinity, 'a')).ok);
    expect(affinity.connected).toBe(true);
  });

  it('makes a new connection when the old one stays silent', async () => {
    const affinity = await open({ budgetMs: 20 });
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    await server.pause();
    expect((await lookUpOne(affinity, 'a')).ok).toBe(false);
    await until(() => seen.includes(false), { timeoutMs: 10_000 });
    server.resume();
    await until(async () => (await lookUpOne(affinity, 'a')).ok);
  });
});
