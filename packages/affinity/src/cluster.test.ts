// SPDX-License-Identifier: Apache-2.0
// A cluster of six: keys spread over its masters, a slot that moves, a master that dies.
import { silentLog } from '@detour/core';
import { askRedis, type RedisCluster, startRedisCluster, until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Affinity, openAffinity } from './affinity.js';
import { granted, pin } from './testdata.js';

const BUDGET_MS = 100;
const LONG = { timeoutMs: 30_000 };
let cluster: RedisCluster;
let affinity: Affinity;

beforeAll(async () => {
  cluster = await startRedisCluster();
}, 90_000);
afterAll(() => cluster[Symbol.asyncDispose]());
const open = async (budgetMs: number) => {
  affinity = openAffinity({ url: cluster.url, log: silentLog, budgetMs });
  await until(() => affinity.connected, LONG);
};
afterEach(() => affinity[Symbol.asyncDispose]());

const offers = (keys: readonly string[], path = 5) =>
  keys.map((key) => ({ key, record: pin(path), ttlS: 600 }));
const many = (name: string, count = 300) => Array.from({ length: count }, (_, i) => `${name}-${i}`);

describe('a cluster of six', () => {
  it('shares a batch out among the masters, one pipeline for each, and answers in the order of the keys', async () => {
    await open(2_000);
    const keys = many('spread');
    const mixed = keys.map((key, i) => ({ key, record: pin(i + 1), ttlS: 600 }));
    expect((await affinity.lookOrCreate(mixed)).map(granted)).toEqual(
      mixed.map(({ record }) => ({ record, created: true })),
    );
    for (const { url } of await cluster.masters())
      expect(Number(await askRedis(url, 'DBSIZE'))).toBeGreaterThan(keys.length / 6);
    expect((await affinity.lookUp([...keys].reverse())).map(granted)).toEqual(
      [...mixed].reverse().map(({ record }) => record),
    );
    expect((await affinity.refresh(mixed)).held).toEqual(
      new Map(mixed.map(({ key, record }) => [key, record])),
    );
    expect(await affinity.end(keys)).toEqual({ ended: keys.length, failed: 0 });
    expect(affinity.counters).toMatchObject({ errors: 0, timeouts: 0 });
  });

  it('a slot that moves: every key of it is found and written, before, while (ASK) and after (MOVED), and so are all others', async () => {
    await open(2_000);
    const moving = many('{moves}', 20);
    const others = many('stay', 100);
    const batch = (extra: string[]) => [...moving, ...extra, ...others];
    const all = async (keys: string[], path: number) =>
      (await affinity.lookOrCreate(offers(keys, path))).map(granted);
    await all(batch([]), 5);
    const migration = await cluster.beginMigration('{moves}');
    const during = many('{moves}during', 20);
    const midway = await all(batch(during), 6);
    expect(midway.filter(({ created }) => created)).toHaveLength(during.length);
    expect(await askRedis(migration.from.url, 'CLUSTER', 'COUNTKEYSINSLOT', migration.slot)).toBe('20');
    const moved = await affinity.repin({
      ...(offers(during, 9)[0] ?? expect.fail()),
      record: pin(9, 2),
      expectedGen: 1,
    });
    expect(granted(moved).written).toBe(true);
    expect((await affinity.refresh(offers(batch(during)))).failed).toEqual([]);
    await cluster.endMigration(migration);
    const after = await all(batch([...during, ...many('{moves}after', 20)]), 7);
    expect(after.filter(({ created }) => created)).toHaveLength(20);
    expect(granted((await affinity.lookUp(['{moves}during-0']))[0])).toEqual(pin(9, 2));
    expect(affinity.counters).toMatchObject({ timeouts: 0, conflicts: 0 });
    expect(await cluster.masterOf('{moves}')).toBe(migration.to);
  }, 60_000);

  it('a master that dies: only its keys wait, each within the budget, until its replica has its slots and its pins', async () => {
    await open(BUDGET_MS);
    const told: [boolean, string][] = [];
    affinity.onConnectionChange((connected, why) => told.push([connected, why]));
    const keys = many('dies');
    const patient = { budgetMs: 3_000 };
    (await affinity.lookOrCreate(offers(keys), patient)).map(granted);
    const dead = await cluster.masterOf('dies-0');
    const others = (await cluster.masters()).filter((one) => one !== dead);
    const theirs: string[] = [];
    for (const key of keys) if (others.includes(await cluster.masterOf(key, others[0]))) theirs.push(key);
    await until(async () => (await askRedis(dead.url, 'WAIT', '1', '1000')) === '1', LONG);
    await dead.pause();
    let answered = 0;
    const found = await until(async () => {
      const beganMs = performance.now();
      const answers = await affinity.lookUp(keys);
      expect(performance.now() - beganMs).toBeLessThan(BUDGET_MS + 500);
      if (affinity.connected && answers.every(({ ok }) => ok)) return answers;
      const here = answers.filter((answer, i) => answer.ok && theirs.includes(keys[i] ?? ''));
      if (here.length === theirs.length) answered += 1;
      return null;
    }, LONG);
    expect(answered).toBeGreaterThan(3);
    expect(found.map(granted)).toEqual(keys.map(() => pin(5)));
    await until(() => told.at(-1)?.[0] !== false, LONG);
    dead.resume();
    await until(async () => (await askRedis(dead.url, 'ROLE')).startsWith('slave'), LONG);
    expect((await affinity.lookOrCreate(offers(many('later')), patient)).every(({ ok }) => ok)).toBe(true);
  }, 90_000);
});
