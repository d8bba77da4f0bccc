// SPDX-License-Identifier: Apache-2.0
// All pins in Redis before a drain: a real Redis, and flow records in real maps of the kernel.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BpfObject, openObject } from '@detour/bpf';
import { flowRecordKey } from '@detour/contracts';
import { askRedis, until as poll, type RedisServer, startRedis } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openPinRig, type PinRig, RIG_MAPS } from './pin-rig.js';
import { flowQuestion } from './testdata.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));
const until: typeof poll = (probe, options) => poll(probe, { timeoutMs: 20_000, ...options });

let object: BpfObject;
let redis: RedisServer;
let rig: PinRig;
let sport = 1000;

beforeAll(async () => {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  object = openObject(`${DATAPATH}build/edge.bpf.o`, { maxEntries: RIG_MAPS });
  redis = await startRedis();
});
afterAll(async () => {
  object.close();
  await redis[Symbol.asyncDispose]();
});
beforeEach(async () => {
  rig = openPinRig({ object, url: redis.url });
  await until(() => rig.affinity.connected);
});
afterEach(() => rig[Symbol.asyncDispose]());

/** Flows in the middle, on paths in turn; those of `recorded` pass for known to Redis. */
function flows(count: number, recorded: boolean): string[] {
  return Array.from({ length: count }, (_, i) => {
    const question = flowQuestion({ sport: sport++, syn: false });
    const initiatorIsB = question.norm === 1;
    const decision = { action: 'steer', rule: 1, chain: 1, path: 1 + (i % 2), initiatorIsB } as const;
    const made = { ...decision, pinGen: recorded ? 1 : 0, recorded, by: 'last-tables', why: '' } as const;
    expect(rig.gateway.flows.install(question, made, 1)).toBe(true);
    return flowRecordKey(question.key);
  });
}

async function held(keys: readonly string[]): Promise<number> {
  const answers = await rig.affinity.lookUp(keys);
  return answers.filter((answer) => answer.ok && answer.value !== null).length;
}

const never = new AbortController().signal;

describe('flushPins', () => {
  it('has Redis hold every pin, also what passed for recorded and is not there: more than go into one batch', async () => {
    const keys = [...flows(700, false), ...flows(700, true)];
    const left: number[] = [];
    await rig.flush((count) => left.push(count), never);
    await until(async () => (await held(keys)) === keys.length); // an answer may be late on a busy machine
    expect([left[0], left.at(-1)]).toEqual([keys.length, 0]);
  });

  it('goes on until a Redis that was away has all of them', async () => {
    await redis.stop();
    await until(() => !rig.affinity.connected);
    const keys = [...flows(20, false), ...flows(20, true)];
    const left: number[] = [];
    const flushing = rig.flush((count) => left.push(count), never);
    await until(() => left.length > 3); // it has tried in vain, more than once
    expect(new Set(left)).toEqual(new Set([keys.length]));
    await redis.start();
    await flushing;
    await until(async () => (await held(keys)) === keys.length); // an answer may be late on a busy machine
  });

  it('waits for no flow that began later, and ends with its signal', async () => {
    await redis.stop();
    await until(() => !rig.affinity.connected);
    flows(1, false);
    const abort = new AbortController();
    const left: number[] = [];
    const flushing = rig.flush((count) => left.push(count), abort.signal);
    await until(() => left.length > 1);
    flows(5, false);
    const before = left.length;
    await until(() => left.length > before + 1);
    expect(left.at(-1)).toBe(1);
    abort.abort(new Error('no longer wanted'));
    await expect(flushing).rejects.toThrow('no longer wanted');
    await redis.start();
    expect(await askRedis(redis.url, 'PING')).toContain('PONG');
  });
});
