// SPDX-License-Identifier: Apache-2.0
/**
 * affinity: flow records into Redis per second through packages/affinity (look-or-create, batches of 200 with several on their way), beside
 * ioredis alone sending the same commands in pipelines of 200; how long another gateway takes to read 100,000 of them back; what Redis needs
 * for each; and the same rate into a cluster of six, beside one server.
 */
import { openAffinity } from '@detour/affinity';
import { encodeFlowRecord, flowRecordKey } from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { askRedis, startRedis, startRedisCluster, until } from '@detour/testkit';
import { Redis } from 'ioredis';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { ratioFigure, valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';

const FLOWS = 100_000;
const BATCH = 200;
const UNDER_WAY = 8;
const TTL_S = 120;
const RECORD = { gen: 1, path: 7, chain: 1, initiatorIsB: false } as const;
/** Generous: what is measured is the rate, not the budget of a single flow. */
const BUDGET_MS = 5_000;

export const affinity: Benchmark = {
  name: 'affinity',
  what: 'flow records into Redis per second, beside an ioredis pipeline alone; 100k flows read back',
  run: async (context) => {
    await using server = await startRedis();
    await using pins = openAffinity({ url: server.url, log: silentLog, budgetMs: BUDGET_MS });
    const alone = new Redis({ path: server.url.replace('unix:', '') });
    try {
      await until(() => pins.connected);
      const figures = await measureAffinity(context, pins, alone);
      if (context.wants('affinity.bytes')) figures.push(await measureBytes(server.url, pins));
      if (context.wants('affinity.cluster')) figures.push(await measureCluster(context, pins, alone));
      return figures;
    } finally {
      alone.disconnect();
    }
  },
};

type Pins = ReturnType<typeof openAffinity>;

function keysOf(round: number): string[] {
  return Array.from({ length: FLOWS }, (_, i) => {
    const a = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, round, i >>> 8, i & 255);
    const b = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 9);
    return flowRecordKey({ vrf: 1, proto: 6, scope: 0, a, b, aport: 1024 + (i >>> 16), bport: 443 });
  });
}

/** Runs batches of keys, a few at a time; keys per second. */
async function inBatches(keys: readonly string[], work: (batch: string[]) => Promise<void>): Promise<number> {
  let next = 0;
  const from = performance.now();
  const worker = async (): Promise<void> => {
    while (next < keys.length) {
      const batch = keys.slice(next, next + BATCH);
      next += BATCH;
      await work(batch);
    }
  };
  await Promise.all(Array.from({ length: UNDER_WAY }, worker));
  return keys.length / ((performance.now() - from) / 1000);
}

function recordAll(pins: Pins, keys: readonly string[]): Promise<number> {
  return inBatches(keys, async (batch) => {
    const answers = await pins.lookOrCreate(batch.map((key) => ({ key, record: RECORD, ttlS: TTL_S })));
    if (answers.some(({ ok }) => !ok))
      throw new Fault('unavailable', 'Redis did not answer look-or-create in time');
  });
}

/** Growth of the server's memory by 100,000 records, and what it says of single ones. */
async function measureBytes(url: string, pins: Pins): Promise<Figure> {
  const usedBytes = async () =>
    Number(/used_memory:(\d+)/.exec(await askRedis(url, 'INFO', 'memory'))?.[1] ?? Number.NaN);
  await askRedis(url, 'FLUSHALL');
  const before = await usedBytes();
  const keys = keysOf(1);
  await recordAll(pins, keys);
  const grown = (await usedBytes()) - before;
  const [some = ''] = keys;
  return valueFigure({
    name: 'affinity.bytes[100k]',
    unit: 'B/flow',
    values: [grown / FLOWS],
    detail: { 'MEMORY USAGE of one': await askRedis(url, 'MEMORY', 'USAGE', some, 'SAMPLES', '0') },
  });
}

/** Six servers on this machine share its processors with us: what counts is that sharing batches out costs little. */
async function measureCluster(context: BenchContext, one: Pins, alone: Redis): Promise<Figure> {
  await using cluster = await startRedisCluster();
  await using pins = openAffinity({ url: cluster.url, log: silentLog, budgetMs: BUDGET_MS });
  await until(() => pins.connected, { timeoutMs: 20_000 });
  let round = 0;
  const samples = await measureRounds(context, 'affinity.cluster', {
    cluster: async () => {
      for (const { url } of await cluster.masters()) await askRedis(url, 'FLUSHALL');
      return recordAll(pins, keysOf(round++ % 256));
    },
    one: async () => {
      await alone.flushall();
      return recordAll(one, keysOf(round++ % 256));
    },
  });
  return ratioFigure({
    name: 'affinity.cluster',
    unit: '/s',
    values: samples.of('cluster'),
    baselines: samples.of('one'),
  });
}

async function measureAffinity(context: BenchContext, pins: Pins, alone: Redis): Promise<Figure[]> {
  let round = 0;
  const text = encodeFlowRecord(RECORD);
  const samples = await measureRounds(context, 'affinity', {
    ours: async () => {
      await alone.flushall();
      return recordAll(pins, keysOf(round++ % 256));
    },
    alone: async () => {
      const keys = keysOf(round++ % 256);
      await alone.flushall();
      return inBatches(keys, async (batch) => {
        const pipeline = alone.pipeline();
        for (const key of batch) pipeline.set(key, text, 'EX', TTL_S, 'NX', 'GET');
        await pipeline.exec();
      });
    },
    recovery: async () => {
      const keys = keysOf((round + 255) % 256); // those of the side before
      return inBatches(keys, async (batch) => {
        const answer = await pins.lookUp(batch);
        if (answer.some((one) => !one.ok || one.value === null))
          throw new Fault('unavailable', 'Redis did not give back what was recorded');
      });
    },
  });
  return [
    ratioFigure({
      name: 'affinity.records',
      unit: '/s',
      values: samples.of('ours'),
      baselines: samples.of('alone'),
      goal: { of: 'ratio', atLeast: 0.7 },
    }),
    valueFigure({
      name: 'affinity.recovery[100k]',
      unit: 'ms',
      values: samples.of('recovery').map((perSecond) => (FLOWS / perSecond) * 1000),
    }),
  ];
}
