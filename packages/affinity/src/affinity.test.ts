// SPDX-License-Identifier: Apache-2.0
// What every way of running Redis must do alike: one server, a master that sentinels name, a cluster of six; real processes each.
import { encodeFlowRecord } from '@detour/contracts';
import { silentLog } from '@detour/core';
import {
  askRedis,
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisSentinel,
  until,
} from '@detour/testkit';
import { Cluster, Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Affinity, type AffinitySpec, openAffinity } from './affinity.js';
import { granted, pin } from './testdata.js';

interface Way extends AsyncDisposable {
  readonly url: string;
  /** Those that take writes. */
  readonly masters: readonly RedisServer[];
}

const WAYS: Record<string, () => Promise<Way>> = {
  'one server': async () => {
    const server = await startRedis();
    return { url: server.url, masters: [server], [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  },
  sentinels: async () => {
    const sentinel = await startRedisSentinel();
    return { ...sentinel, masters: [await sentinel.master()] };
  },
  'a cluster of six': async () => {
    const cluster = await startRedisCluster();
    return {
      url: cluster.url,
      masters: await cluster.masters(),
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  },
};

/** Another client, to see what is there. */
function plainClient({ url, masters: [first] }: Way): Redis | Cluster {
  if (first === undefined) throw new Error('no master');
  if (url.startsWith('redis+cluster')) return new Cluster([first.url]);
  return first.url.startsWith('unix:')
    ? new Redis({ path: first.url.slice('unix:'.length) })
    : new Redis(first.url);
}

describe.each(Object.entries(WAYS))('affinity on %s', (_, start) => {
  let way: Way;
  let plain: Redis | Cluster;
  const opened: Affinity[] = [];
  const open = async (overrides: Partial<AffinitySpec> = {}) => {
    const affinity = openAffinity({ url: way.url, log: silentLog, budgetMs: 1_000, ...overrides });
    opened.push(affinity);
    await until(() => affinity.connected);
    return affinity;
  };
  const readsProcessed = async () => {
    const stats = await Promise.all(way.masters.map(({ url }) => askRedis(url, 'INFO', 'stats')));
    return stats.reduce((sum, text) => sum + Number(/total_reads_processed:(\d+)/.exec(text)?.[1]), 0);
  };

  beforeAll(async () => {
    way = await start();
    plain = plainClient(way);
  }, 90_000);
  beforeEach(async () => {
    for (const { url } of way.masters) await askRedis(url, 'FLUSHALL');
  });
  afterEach(async () => {
    for (const affinity of opened.splice(0)) await affinity[Symbol.asyncDispose]();
  });
  afterAll(async () => {
    plain.disconnect();
    await way[Symbol.asyncDispose]();
  });

  describe('lookOrCreate', () => {
    it('creates what is not there, with its expiry, and answers what is', async () => {
      const affinity = await open();
      const first = (await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 100 }])).map(granted);
      expect(first).toEqual([{ record: pin(5), created: true }]);
      expect(await plain.get('a')).toBe('1|5|2|0');
      expect(await plain.ttl('a')).toBeGreaterThan(95);
      const both = await affinity.lookOrCreate([
        { key: 'a', record: pin(6), ttlS: 900 },
        { key: 'b', record: pin(7), ttlS: 900 },
      ]);
      expect(both.map(granted)).toEqual([
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
      const pins = (await Promise.all(asked)).map(([answer]) => granted(answer));
      for (let flow = 0; flow < 25; flow++) {
        const mine = pins.slice(flow * 8, flow * 8 + 8);
        expect(new Set(mine.map((one) => one.record.path)).size).toBe(1);
        expect(mine.filter((one) => one.created)).toHaveLength(1);
      }
    });

    it('replaces a value that is no record', async () => {
      const affinity = await open();
      await plain.set('a', 'rubbish');
      const [answer] = await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]);
      expect(granted(answer)).toEqual({ record: pin(5), created: true });
      expect(await plain.get('a')).toBe('1|5|2|0');
      expect(affinity.counters.corrupt).toBe(1);
    });

    it('shares pipelines: ten thousand flows take no ten thousand round trips', async () => {
      const affinity = await open({ budgetMs: 20_000 });
      const before = await readsProcessed();
      const asked = Array.from({ length: 10_000 }, (_, i) =>
        affinity.lookOrCreate([{ key: `f${i}`, record: pin(1), ttlS: 60 }]),
      );
      expect((await Promise.all(asked)).flat().every((answer) => answer.ok)).toBe(true);
      expect((await readsProcessed()) - before).toBeLessThan(1_000);
    });
  });

  describe('lookUp, refresh', () => {
    it('answer what is recorded, and extend without writing', async () => {
      const affinity = await open();
      await plain.set('a', '3|8|2|1', 'EX', 10);
      await plain.set('long', '1|1|2|0', 'EX', 1_000);
      expect((await affinity.lookUp(['a', 'none'])).map(granted)).toEqual([
        { gen: 3, path: 8, chain: 2, initiatorIsB: true },
        null,
      ]);
      const refreshed = await affinity.refresh([
        { key: 'a', ttlS: 500 },
        { key: 'none', ttlS: 500 },
        { key: 'long', ttlS: 500 },
      ]);
      expect(refreshed).toEqual({
        held: new Map([
          ['a', { gen: 3, path: 8, chain: 2, initiatorIsB: true }],
          ['long', pin(1)],
        ]),
        missing: ['none'],
        failed: [],
      });
      expect(await plain.ttl('a')).toBeGreaterThan(490);
      expect(await plain.ttl('long')).toBeGreaterThan(990); // never shortened
      expect(await plain.exists('none')).toBe(0);
      expect(await plain.get('a')).toBe('3|8|2|1');
    });

    it('ends pins, and says how many there were', async () => {
      const affinity = await open();
      const keys = ['ended-a', 'ended-b', 'ended-c'];
      await affinity.lookOrCreate(keys.slice(0, 2).map((key) => ({ key, record: pin(1), ttlS: 60 })));
      expect(await affinity.end(keys)).toEqual({ ended: 2, failed: 0 });
      expect((await affinity.lookUp(keys)).map(granted)).toEqual([null, null, null]);
      expect(await affinity.end([])).toEqual({ ended: 0, failed: 0 });
    });

    it('refreshes many in chunks', async () => {
      const affinity = await open({ refreshBudgetMs: 2_000 });
      const keys = Array.from({ length: 2_500 }, (_, i) => `f${i}`);
      await Promise.all(keys.slice(0, 2_400).map((key) => plain.set(key, '1|1|2|0', 'EX', 5)));
      const { held, missing, failed } = await affinity.refresh(keys.map((key) => ({ key, ttlS: 100 })));
      expect([held.size, missing.length, failed.length]).toEqual([2_400, 100, 0]);
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
      ['the same path, which a node has had dropped', '1|5|2|4', 1, pin(5, 1), false],
      ['the same path, which a node has let pass', '1|5|2|2', 1, pin(5, 1), true],
    ])('with %s', async (_, held, expectedGen, record, written) => {
      const affinity = await open();
      if (held !== null) await plain.set('a', held, 'EX', 10);
      const answer = granted(await affinity.repin({ key: 'a', expectedGen, record, ttlS: 300 }));
      expect(answer.written).toBe(written);
      const text = `${record.gen}|${record.path}|2|0`;
      expect(await plain.get('a')).toBe(written ? text : held);
      expect(await plain.ttl('a')).toBeGreaterThan(written ? 290 : 0);
      expect(affinity.counters.conflicts).toBe(written ? 0 : 1);
      if (!written) expect(encodeFlowRecord(answer.record)).toBe(held);
    });

    it('lets exactly one of many win', async () => {
      const affinities = [await open(), await open(), await open()];
      await plain.set('a', '1|5|2|0');
      const answers = await Promise.all(
        affinities.map((one, i) => one.repin({ key: 'a', expectedGen: 1, record: pin(i + 6, 2), ttlS: 60 })),
      );
      expect(answers.map(granted).filter((one) => one.written)).toHaveLength(1);
      expect(new Set(answers.map((one) => granted(one).record.path)).size).toBe(1);
    });
  });

  it('of many who claim a key one has it, until it expires; others learn who', async () => {
    const [one, other] = [await open(), await open()];
    const budget = { budgetMs: 1_000 };
    const keys = Array.from({ length: 40 }, (_, i) => `detour:snat:{${i}}`);
    const claim = (by: Affinity, holder: string) =>
      by.claims.claim(
        keys.map((key) => ({ key, holder, ttlS: 100 })),
        budget,
      );
    const [first, second] = await Promise.all([claim(one, 'one'), claim(other, 'other')]);
    const holders = first.map(granted);
    expect(second.map(granted)).toEqual(holders);
    expect((await other.claims.holders([...keys, 'detour:snat:{none}'], budget)).map(granted)).toEqual([
      ...holders,
      null,
    ]);
    const [taken = '', gone = ''] = keys;
    await plain.set(taken, 'a third', 'EX', 100);
    await plain.del(gone);
    const ours = keys.map((key, i) => ({ key, holder: holders[i] ?? '', ttlS: 300 }));
    expect(await one.claims.extend(ours)).toBe(1);
    expect([await plain.get(taken), await plain.get(gone)]).toEqual(['a third', holders[1]]);
    expect(await plain.ttl(taken)).toBeLessThanOrEqual(100);
    expect(await plain.ttl(keys[2] ?? '')).toBeGreaterThan(290);
  });
});
