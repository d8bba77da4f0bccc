// SPDX-License-Identifier: Apache-2.0
// Pins while Redis is stopped, frozen, emptied and cut off: in a container where there is Docker, on a local process otherwise.
import type { FlowRecord } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { type BreakableServer, startBreakableRedis, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Affinity, openAffinity } from './affinity.js';
import { lookUpOne } from './testdata.js';

let server: BreakableServer;
let affinity: Affinity;
const pin: FlowRecord = { gen: 1, path: 5, chain: 2, initiatorIsB: false };
const LONG = { timeoutMs: 25_000 };
const BUDGET_MS = 50;

const lookUp = () => lookUpOne(affinity, 'a');
const isThere = async () => {
  const answer = await lookUp();
  return answer.ok && answer.value?.path === pin.path;
};
const record = async () =>
  (await affinity.lookOrCreate([{ key: 'a', record: pin, ttlS: 600 }]))[0]?.ok === true;
const fails = async () => !(await lookUp()).ok;
/** Whatever is wrong, nobody waits much longer than the budget. */
async function answersInTime(): Promise<void> {
  const sinceMs = performance.now();
  expect((await lookUp()).ok).toBe(false);
  expect(performance.now() - sinceMs).toBeLessThan(BUDGET_MS + 500);
}

beforeEach(async () => {
  server = await startBreakableRedis();
  affinity = openAffinity({ url: server.url, log: silentLog, budgetMs: BUDGET_MS });
  await until(record, LONG);
});
afterEach(async () => {
  await affinity[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe('while Redis is broken', () => {
  it('stopped: answers at once that it cannot; started again with its data, the pin is there', async () => {
    await server.stop();
    await until(fails, LONG);
    await answersInTime();
    await server.start();
    await until(isThere, LONG);
  });

  it('frozen: keeps its budget; thawed, the pin is there', async () => {
    await server.pause();
    await answersInTime();
    await server.resume();
    await until(isThere, LONG);
  });

  it('restarted empty: the pin is gone and can be made again', async () => {
    await server.restart('empty');
    await until(async () => {
      const answer = await lookUp();
      return answer.ok && answer.value === null;
    }, LONG);
    await until(record, LONG);
    await until(isThere, LONG);
  });

  it('cut off without a word: keeps its budget, makes a new connection once mended, and the pin is there', async () => {
    await server.cut();
    await answersInTime();
    await until(() => !affinity.connected, LONG);
    await server.mend();
    await until(isThere, LONG);
  });
});
