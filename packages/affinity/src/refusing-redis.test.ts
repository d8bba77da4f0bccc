// SPDX-License-Identifier: Apache-2.0
// A Redis that answers and takes no pins: full, and a read-only replica.
import { silentLog } from '@detour/core';
import { askRedis, freePorts, type RedisServer, startRedis, until } from '@detour/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { type Affinity, openAffinity } from './affinity.js';
import { granted, pin } from './testdata.js';

const opened: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one[Symbol.asyncDispose]();
});
const use = <T extends AsyncDisposable>(one: T): T => {
  opened.push(one);
  return one;
};

/** With what it has said of refusals, in order. */
async function open(server: RedisServer): Promise<{ affinity: Affinity; told: (string | null)[] }> {
  const affinity = use(openAffinity({ url: server.url, log: silentLog, budgetMs: 1_000 }));
  const told: (string | null)[] = [];
  affinity.onRefusalChange((why) => told.push(why));
  await until(() => affinity.connected);
  return { affinity, told };
}

describe('a Redis that takes no pins', () => {
  it('full: finds what is there, refreshes and ends it, says why it records nothing, and records once there is room', async () => {
    const server = use(
      await startRedis({ args: ['--maxmemory', '4mb', '--maxmemory-policy', 'noeviction'] }),
    );
    const { affinity, told } = await open(server);
    await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]);
    await askRedis(server.url, 'CONFIG', 'SET', 'maxmemory', '1');
    const requests = ['a', 'b', 'c'].map((key) => ({ key, record: pin(9), ttlS: 60 }));
    const [a, b, c] = await affinity.lookOrCreate(requests);
    expect(granted(a)).toEqual({ record: pin(5), created: false });
    for (const none of [b, c]) expect(none).toMatchObject({ ok: false, why: expect.stringMatching(/OOM/) });
    expect(affinity.counters.unrecorded).toBe(2);
    const better = { key: 'a', record: pin(3), ttlS: 60, expectedGen: 1 };
    expect(await affinity.repin(better)).toMatchObject({ ok: false, why: expect.stringMatching(/OOM/) });
    expect(await affinity.refresh([{ key: 'a', ttlS: 600 }])).toMatchObject({ missing: [], failed: [] });
    expect(affinity.refuses).toContain('OOM');
    expect(affinity.connected).toBe(true);
    expect(told).toEqual([expect.stringContaining('OOM')]);
    expect(await affinity.end(['a'])).toEqual({ ended: 1, failed: 0 });
    expect(affinity.refuses).toContain('OOM'); // it went without room
    await askRedis(server.url, 'CONFIG', 'SET', 'maxmemory', '0');
    await until(() => affinity.refuses === null); // noticed though nobody writes
    expect(told.at(-1)).toBeNull();
    expect((await affinity.lookOrCreate(requests)).map(granted)).toEqual(
      requests.map(({ record }) => ({ record, created: true })),
    );
    expect(
      await askRedis(server.url, 'KEYS', '*:probe').then((keys) => keys.split('\n').length),
    ).toBeLessThan(2);
  });

  it('a read-only replica: finds what is there, and records once it is master', async () => {
    const [masterPort = 0, replicaPort = 0] = await freePorts(2);
    const master = use(await startRedis({ unix: false, port: masterPort }));
    await askRedis(master.url, 'SET', 'a', '1|5|2|0');
    const args = ['--replicaof', '127.0.0.1', String(masterPort)];
    const replica = use(await startRedis({ unix: false, port: replicaPort, args }));
    await until(async () => (await askRedis(replica.url, 'EXISTS', 'a')) === '1', { timeoutMs: 20_000 });
    const { affinity, told } = await open(replica);
    const requests = ['a', 'b'].map((key) => ({ key, record: pin(9), ttlS: 60 }));
    const [a, b] = await affinity.lookOrCreate(requests);
    expect(granted(a)).toEqual({ record: pin(5), created: false });
    expect(b).toMatchObject({ ok: false, why: expect.stringMatching(/READONLY/) });
    expect(await affinity.refresh([{ key: 'a', ttlS: 600 }])).toMatchObject({ failed: ['a'] });
    expect(await affinity.end(['a'])).toEqual({ ended: 0, failed: 1 });
    expect(told).toEqual([expect.stringContaining('READONLY')]);
    await askRedis(replica.url, 'REPLICAOF', 'NO', 'ONE');
    await until(() => affinity.refuses === null);
    expect(granted((await affinity.lookOrCreate(requests))[1]).created).toBe(true);
  });
});
