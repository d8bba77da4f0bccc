// SPDX-License-Identifier: Apache-2.0
// On a real redis-server that is stopped, restarted and frozen.
import type { FlowRecord } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { type RedisServer, startRedis, until } from '@detour/testkit';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Affinity, type AffinitySpec, openAffinity } from './affinity.js';
import type { Answer } from './link.js';
import { winnerOf } from './winner.js';

let server: RedisServer;
let plain: Redis;
const opened: Affinity[] = [];
const open = async (overrides: Partial<AffinitySpec> = {}) => {
  const affinity = openAffinity({ url: server.url, log: silentLog, budgetMs: 1_000, ...overrides });
  opened.push(affinity);
  await until(() => affinity.connected);
  return affinity;
};
const pin = (path: number, gen = 1): FlowRecord => ({ gen, path, chain: 2, initiatorIsB: false });
const value = <T>(answer: Answer<T>): T => {
  if (!answer.ok) throw new Error(answer.why);
  return answer.value;
};

beforeEach(async () => {
  server = await startRedis();
  plain = new Redis({ path: server.url.slice('unix:'.length) });
  plain.on('error', () => {});
});
afterEach(async () => {
  plain.disconnect();
  for (const affinity of opened.splice(0)) await affinity[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe('winnerOf', () => {
  it('prefers the higher generation, then the lower path', () => {
    expect(winnerOf(pin(1, 1), pin(9, 2))).toEqual(pin(9, 2));
    expect(winnerOf(pin(9, 2), pin(1, 1))).toEqual(pin(9, 2));
    expect(winnerOf(pin(4), pin(3))).toEqual(pin(3));
    expect(winnerOf(pin(3), pin(4))).toEqual(pin(3));
  });
});

describe('lookOrCreate', () => {
  it('creates what is not there, with its expiry, and answers what is', async () => {
    const affinity = await open();
    const first = value(await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 100 }]));
    expect(first).toEqual([{ record: pin(5), created: true }]);
    expect(await plain.get('a')).toBe('1|5|2|0');
    expect(await plain.ttl('a')).toBeGreaterThan(95);
    const both = value(
      await affinity.lookOrCreate([
        { key: 'a', record: pin(6), ttlS: 900 },
        { key: 'b', record: pin(7), ttlS: 900 },
      ]),
    );
    expect(both).toEqual([
      { record: pin(5), created: false },
      { record: pin(7), created: true },
    ]);
    expect(await plain.ttl('a')).toBeLessThanOrEqual(100);
  });

  it('gives all who ask at once for one flow the same pin', async () => {
    const one = await open();
    const two = await open();
    const asked = Array.from({ length: 200 }, (_, i) =>
      (i % 2 ? one : two).lookOrCreate([{ key: `f${i >> 3}`, record: pin(i + 1), ttlS: 60 }]),
    );
    const pins = (await Promise.all(asked)).map((answer) => value(answer)[0]);
    for (let flow = 0; flow < 25; flow++) {
      const mine = pins.slice(flow * 8, flow * 8 + 8);
      expect(new Set(mine.map((one) => one?.record.path)).size).toBe(1);
      expect(mine.filter((one) => one?.created)).toHaveLength(1);
    }
  });

  it('replaces a value that is no record', async () => {
    const affinity = await open();
    await plain.set('a', 'rubbish');
    expect(value(await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]))[0]?.created).toBe(
      true,
    );
    expect(await plain.get('a')).toBe('1|5|2|0');
    expect(affinity.counters.corrupt).toBe(1);
  });

  it('shares pipelines: ten thousand flows take no ten thousand round trips', async () => {
    const affinity = await open({ budgetMs: 20_000 });
    const asked = Array.from({ length: 10_000 }, (_, i) =>
      affinity.lookOrCreate([{ key: `f${i}`, record: pin(1), ttlS: 60 }]),
    );
    expect((await Promise.all(asked)).every((answer) => answer.ok)).toBe(true);
    const reads = Number(/total_reads_processed:(\d+)/.exec(await plain.info('stats'))?.[1]);
    expect(reads).toBeLessThan(1_000);
  });
});

describe('lookUp, refresh', () => {
  it('answer what is recorded, and extend without writing', async () => {
    const affinity = await open();
    await plain.set('a', '3|8|2|1', 'EX', 10);
    await plain.set('long', '1|1|2|0', 'EX', 1_000);
    expect(value(await affinity.lookUp(['a', 'none']))).toEqual([
      { gen: 3, path: 8, chain: 2, initiatorIsB: true },
      null,
    ]);
    const refreshed = value(
      await affinity.refresh([
        { key: 'a', ttlS: 500 },
        { key: 'none', ttlS: 500 },
        { key: 'long', ttlS: 500 },
      ]),
    );
    expect(refreshed).toEqual({ refreshed: 2, missing: ['none'] });
    expect(await plain.ttl('a')).toBeGreaterThan(490);
    expect(await plain.ttl('long')).toBeGreaterThan(990); // never shortened
    expect(await plain.exists('none')).toBe(0);
    expect(await plain.get('a')).toBe('3|8|2|1');
  });

  it('ends pins, and says how many there were', async () => {
    const affinity = await open();
    const keys = ['ended-a', 'ended-b', 'ended-c'];
    await affinity.lookOrCreate(keys.slice(0, 2).map((key) => ({ key, record: pin(1), ttlS: 60 })));
    expect(value(await affinity.end(keys))).toBe(2);
    expect(value(await affinity.lookUp(keys))).toEqual([null, null, null]);
    expect(value(await affinity.end([]))).toBe(0);
  });

  it('refreshes many in chunks', async () => {
    const affinity = await open({ refreshBudgetMs: 2_000 });
    const keys = Array.from({ length: 2_500 }, (_, i) => `f${i}`);
    await plain.mset(...keys.slice(0, 2_400).flatMap((key) => [key, '1|1|2|0']));
    for (const key of keys.slice(0, 2_400)) plain.expire(key, 5);
    const { refreshed, missing } = value(await affinity.refresh(keys.map((key) => ({ key, ttlS: 100 }))));
    expect([refreshed, missing.length]).toEqual([2_400, 100]);
  });
});

describe('repin', () => {
  it.each([
    ['the expected generation', '1|5|2|0', 1, pin(9, 2), true],
    ['no pin', null, 1, pin(9, 2), true],
    ['another generation', '2|5|2|0', 1, pin(9, 2), false],
    ['a lower generation than expected', '1|5|2|0', 2, pin(9, 3), false],
    ['the same generation and a lower path of ours', '1|5|2|0', 1, pin(4, 1), true],
    ['the same generation and a higher path of ours', '1|5|2|0', 1, pin(6, 1), false],
    ['the very same record', '2|9|2|0', 1, pin(9, 2), true],
    ['rubbish', 'rubbish', 1, pin(9, 2), true],
  ])('with %s', async (_, held, expectedGen, record, written) => {
    const affinity = await open();
    if (held !== null) await plain.set('a', held, 'EX', 10);
    const answer = value(await affinity.repin({ key: 'a', expectedGen, record, ttlS: 300 }));
    expect(answer.written).toBe(written);
    const text = `${record.gen}|${record.path}|2|0`;
    expect(await plain.get('a')).toBe(written ? text : held);
    expect(await plain.ttl('a')).toBeGreaterThan(written ? 290 : 0);
    expect(affinity.counters.conflicts).toBe(written ? 0 : 1);
    if (!written) expect(`${answer.record.gen}|${answer.record.path}|2|0`).toBe(held);
  });

  it('lets exactly one of many win', async () => {
    const affinities = [await open(), await open(), await open()];
    await plain.set('a', '1|5|2|0');
    const answers = await Promise.all(
      affinities.map((one, i) => one.repin({ key: 'a', expectedGen: 1, record: pin(i + 6, 2), ttlS: 60 })),
    );
    expect(answers.map(value).filter((one) => one.written)).toHaveLength(1);
    expect(new Set(answers.map((one) => value(one).record.path)).size).toBe(1);
  });
});

describe('when Redis fails', () => {
  const lookUp = (affinity: Affinity) => affinity.lookUp(['a']);

  it('answers at once while it is absent from the start, and uses it once it is there', async () => {
    await server.stop();
    const affinity = openAffinity({ url: server.url, log: silentLog });
    opened.push(affinity);
    const since = performance.now();
    const answer = await affinity.lookOrCreate([{ key: 'a', record: pin(1), ttlS: 60 }]);
    expect(answer).toMatchObject({ ok: false, why: expect.stringContaining(server.url) });
    expect(performance.now() - since).toBeLessThan(50);
    expect(affinity.counters).toMatchObject({ ops: 1, errors: 1, unrecorded: 1 });
    await server.start();
    await until(() => affinity.connected);
    await until(async () => (await lookUp(affinity)).ok);
  });

  it('goes on by itself after a restart', async () => {
    const affinity = await open();
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    value(await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]));
    await server.kill();
    await until(() => !affinity.connected);
    expect((await lookUp(affinity)).ok).toBe(false);
    await server.start();
    await until(async () => (await lookUp(affinity)).ok);
    expect(value(await lookUp(affinity))).toEqual([pin(5)]);
    await server.restart('empty');
    await until(async () => {
      const answer = await lookUp(affinity);
      return answer.ok && answer.value[0] === null;
    });
    expect(seen.slice(0, 2)).toEqual([false, true]);
    expect(
      value(await affinity.repin({ key: 'a', expectedGen: 1, record: pin(6, 2), ttlS: 60 })).written,
    ).toBe(true);
  });

  it('keeps its budget while it is frozen, then answers at once, and recovers', async () => {
    const affinity = await open({ budgetMs: 20 });
    expect((await lookUp(affinity)).ok).toBe(true);
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    await server.pause();
    const since = performance.now();
    expect((await lookUp(affinity)).ok).toBe(false);
    expect(performance.now() - since).toBeLessThan(100);
    expect(affinity.counters.timeouts).toBe(1);
    await until(async () => {
      const answer = await lookUp(affinity);
      return !answer.ok && /silent|not connected/.test(answer.why);
    });
    const quick = performance.now();
    for (let i = 0; i < 100; i++) expect((await lookUp(affinity)).ok).toBe(false);
    expect(performance.now() - quick).toBeLessThan(100); // a hundred budgets would be two seconds
    server.resume();
    await until(async () => (await lookUp(affinity)).ok);
    expect(affinity.connected).toBe(true);
  });

  it('makes a new connection when the old one stays silent', async () => {
    const affinity = await open({ budgetMs: 20 });
    const seen: boolean[] = [];
    affinity.onConnectionChange((connected) => seen.push(connected));
    await server.pause();
    expect((await lookUp(affinity)).ok).toBe(false);
    await until(() => seen.includes(false), { timeoutMs: 10_000 });
    server.resume();
    await until(async () => (await lookUp(affinity)).ok);
  });
});
