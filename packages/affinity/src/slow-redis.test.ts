// SPDX-License-Identifier: Apache-2.0
// A Redis that answers after half a second, for a while or once.
import { silentLog } from '@detour/core';
import { askRedis, startRedis, startRelay, until } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { openAffinity } from './affinity.js';
import { granted, lookUpOne, pin } from './testdata.js';

const BUDGET_MS = 20;

describe('a Redis that is half a second late', () => {
  it('costs nobody more than the budget, is told as late, and takes what can wait', async () => {
    await using server = await startRedis({ unix: false });
    await using relay = await startRelay(Number(new URL(server.url).port));
    await using affinity = openAffinity({
      url: `redis://127.0.0.1:${relay.port}`,
      log: silentLog,
      budgetMs: BUDGET_MS,
    });
    const told: [boolean, string][] = [];
    affinity.onConnectionChange((connected, why) => told.push([connected, why]));
    await until(() => affinity.connected);
    relay.delay(500);
    let answered = 0;
    await until(
      async () => {
        const beganMs = performance.now();
        if ((await lookUpOne(affinity, 'a')).ok) answered += 1;
        expect(performance.now() - beganMs).toBeLessThan(BUDGET_MS + 300);
        return told.some(([connected]) => !connected);
      },
      { timeoutMs: 10_000 },
    );
    expect(answered).toBe(0);
    expect(told.at(-1)?.[1]).toMatch(/answers after [4-9]\d\d ms/);
    expect(affinity.counters.timeouts).toBeGreaterThan(0);
    const kept = await until(
      async () => {
        const [written] = await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }], {
          budgetMs: 3_000,
        });
        return written?.ok === true ? written.value : null;
      },
      { timeoutMs: 10_000, everyMs: 50 },
    );
    expect(kept.record).toEqual(pin(5));
    relay.delay(0);
    await until(() => told.at(-1)?.[0] === true, { timeoutMs: 10_000 });
    const found = await until(async () => {
      const answer = await lookUpOne(affinity, 'a');
      return answer.ok ? answer.value : null;
    });
    expect(found).toEqual(pin(5));
  });

  it('once: is nothing to tell, and what was asked meanwhile is not done twice', async () => {
    await using server = await startRedis();
    await using affinity = openAffinity({ url: server.url, log: silentLog, budgetMs: BUDGET_MS });
    const told: boolean[] = [];
    await until(() => affinity.connected);
    affinity.onConnectionChange((connected) => told.push(connected));
    await askRedis(server.url, 'CLIENT', 'PAUSE', '500', 'ALL');
    const [late] = await affinity.lookOrCreate([{ key: 'a', record: pin(5), ttlS: 60 }]);
    expect(late).toMatchObject({ ok: false, why: expect.stringContaining(`within ${BUDGET_MS} ms`) });
    await until(async () => (await lookUpOne(affinity, 'a')).ok);
    // It was late, not lost: who asks again gets what was recorded, and offers something else in vain
    const [again] = await affinity.lookOrCreate([{ key: 'a', record: pin(6), ttlS: 60 }]);
    expect(granted(again)).toEqual({ record: pin(5), created: false });
    expect(told).toEqual([]);
  });
});
