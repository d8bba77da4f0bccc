// SPDX-License-Identifier: Apache-2.0
// The keeper with a real Redis, and with flow records in real maps of the kernel (the program itself is not attached).
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BpfObject, openObject } from '@detour/bpf';
import { abi, type FlowRecord, flowRecordKey } from '@detour/contracts';
import type { FlowKey } from '@detour/core';
import { askRedis, until as poll, type RedisServer, startRedis } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FlowDecision } from './decision.js';
import { unpackFlowWord } from './flow-word.js';
import { openPinRig, type PinRig, RIG_MAPS } from './pin-rig.js';
import { flowQuestion } from './testdata.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));

/** On a busy machine everything takes longer. */
const until: typeof poll = (probe, options) => poll(probe, { timeoutMs: 20_000, ...options });

let object: BpfObject;
let redis: RedisServer;
let rig: PinRig;
let affinity: PinRig['affinity'];
let keeper: PinRig['keeper'];
let gateway: PinRig['gateway'];
let down: PinRig['down'];
let alarms: PinRig['alarms'];

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
  ({ affinity, keeper, gateway, down, alarms } = rig);
  await until(() => affinity.connected);
});
afterEach(() => rig[Symbol.asyncDispose]());

let sport = 1000;

/** A flow in the middle, decided for a path; not recorded unless said. */
function flow(path: number, change: Partial<FlowDecision> = {}) {
  const question = flowQuestion({ sport: sport++, syn: false });
  const decision: FlowDecision = {
    action: 'steer',
    rule: 1,
    chain: 1,
    path,
    initiatorIsB: question.norm === 1,
    pinGen: 0,
    recorded: false,
    by: 'last-tables',
    why: '',
    ...change,
  };
  expect(gateway.flows.install(question, decision, 1)).toBe(true);
  return { question, decision, key: question.key, slot: gateway.flows.read(question.key)?.flow.slot ?? 0 };
}
type Flow = ReturnType<typeof flow>;

const held = async (one: Flow): Promise<FlowRecord | null> => {
  const [answer] = await affinity.lookUp([flowRecordKey(one.key)]);
  return answer?.ok === true ? answer.value : null;
};
const pathOf = (one: Flow) => unpackFlowWord(gateway.flows.read(one.key)?.flow.word ?? 0n).path;

/** What the kernel does when it moves a flow: another path in the word, and an event. */
function moveInKernel(one: Flow, path: number): FlowKey {
  gateway.flows.replace(one.key, { ...one.decision, path });
  return one.key;
}

const sweep = () => rig.sweep();

describe('PinKeeper', () => {
  it('records what was decided while Redis was away, once it is back', async () => {
    await redis.stop();
    await until(() => alarms.has('redis_unreachable'));
    const flows = [1, 2, 1].map((path) => flow(path));
    expect((await sweep()).unrecorded).toBe(3);
    expect(flows.map((one) => gateway.slots.isRecorded(one.slot))).toEqual([false, false, false]);
    await redis.start();
    await until(() => affinity.connected);
    expect(alarms.has('redis_unreachable')).toBe(false);
    await sweep();
    await until(() => flows.every((one) => gateway.slots.isRecorded(one.slot)));
    expect(await Promise.all(flows.map(held))).toEqual(
      flows.map((one) => ({
        gen: 1,
        path: one.decision.path,
        chain: 1,
        initiatorIsB: one.decision.initiatorIsB,
      })),
    );
    expect((await sweep()).unrecorded).toBe(0);
  });

  it('goes the way of a gateway that decided first, if that path can be used here', async () => {
    const one = flow(2);
    await affinity.lookOrCreate([
      { key: flowRecordKey(one.key), record: { gen: 1, path: 1, chain: 1, initiatorIsB: true }, ttlS: 60 },
    ]);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(pathOf(one)).toBe(1); // the same generation: the lower path counts
    expect(await held(one)).toMatchObject({ gen: 1, path: 1 });
    expect(keeper.figures()['redis-adopted']).toBe(1n);
  });

  it('a higher path of the same generation gives way to ours', async () => {
    const one = flow(1);
    await affinity.lookOrCreate([
      { key: flowRecordKey(one.key), record: { gen: 1, path: 2, chain: 1, initiatorIsB: true }, ttlS: 60 },
    ]);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(pathOf(one)).toBe(1);
    expect(await held(one)).toMatchObject({ gen: 1, path: 1 });
  });

  it('a pin whose path is down here is replaced by the next generation', async () => {
    down.add(1);
    const one = flow(2);
    await affinity.lookOrCreate([
      { key: flowRecordKey(one.key), record: { gen: 5, path: 1, chain: 1, initiatorIsB: true }, ttlS: 60 },
    ]);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(pathOf(one)).toBe(2);
    expect(await held(one)).toMatchObject({ gen: 6, path: 2 });
  });

  it('writes a re-pin as the next generation, whatever order events and answers have', async () => {
    const one = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    keeper.changed(moveInKernel(one, 2), gateway);
    expect(gateway.slots.isRecorded(one.slot)).toBe(false);
    keeper.changed(moveInKernel(one, 1), gateway);
    await until(() => gateway.slots.isRecorded(one.slot));
    await until(async () => (await held(one))?.path === 1);
    expect((await held(one))?.gen).toBe(gateway.slots.pinGenOf(one.slot));
    expect(gateway.slots.pinGenOf(one.slot)).toBeGreaterThan(1);
  });

  it('a flow that has ended is not written, and an answer about it does not touch who has its slot now', async () => {
    const one = flow(1);
    const repin = moveInKernel(one, 2);
    object.map('flows').delete(object.map('flows').getNextKey() ?? new Uint8Array());
    gateway.slots.release(one.slot);
    keeper.changed(repin, gateway);
    expect(await held(one)).toBeNull();
    const pins = [
      { key: one.key, slot: one.slot, record: { gen: 1, path: 1, chain: 1, initiatorIsB: true }, ttlS: 60 },
    ];
    expect(gateway.slots.take(0)).toBe(one.slot); // taken before the answer to what follows can come
    keeper.record(pins, gateway);
    gateway.slots.release(one.slot);
    expect(gateway.slots.take(0)).toBe(one.slot);
    await until(() => held(one));
    await sweep();
    expect(gateway.slots.isRecorded(one.slot)).toBe(false);
  });

  it('notices that Redis has lost a pin, and records it again', async () => {
    const one = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    await redis.restart('empty');
    await until(() => affinity.connected);
    keeper.refresh(
      [{ key: one.key, slot: one.slot, record: { gen: 1, path: 1, chain: 1, initiatorIsB: true }, ttlS: 60 }],
      gateway,
    );
    await until(() => !gateway.slots.isRecorded(one.slot));
    await sweep();
    await until(() => held(one));
  });

  it('a connection that began here and was decided alone stays, whatever a late answer has recorded', async () => {
    const one = flow(2, { pinGen: 2 }); // as decideLocally says for a SYN
    await affinity.lookOrCreate([
      { key: flowRecordKey(one.key), record: { gen: 1, path: 1, chain: 1, initiatorIsB: true }, ttlS: 60 },
    ]);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(pathOf(one)).toBe(2);
    expect(await held(one)).toMatchObject({ gen: 2, path: 2 });
  });

  it('a connection whose SYN the datapath decided replaces what Redis has of an earlier one, however often that was moved', async () => {
    const one = flow(1, { by: 'kernel', pinGen: 2 });
    const earlier = { gen: 7, path: 2, chain: 1, initiatorIsB: true };
    await affinity.lookOrCreate([{ key: flowRecordKey(one.key), record: earlier, ttlS: 60 }]);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(pathOf(one)).toBe(1);
    expect(await held(one)).toMatchObject({ gen: 8, path: 1 });
  });

  it('notices that another gateway has written over a recorded pin, and goes its way', async () => {
    const one = flow(2);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    const better = { gen: 1, path: 1, chain: 1, initiatorIsB: one.decision.initiatorIsB };
    await affinity.repin({ key: flowRecordKey(one.key), record: better, ttlS: 60, expectedGen: 1 });
    gateway.slots.refreshAgain(one.slot);
    keeper.refresh((await sweep()).refreshed, gateway);
    await until(() => pathOf(one) === 1);
    expect(await held(one)).toEqual(better);
    expect(alarms.get('pins_conflict')).toContain('1 flows went another way here');
  });

  it('looks at every pin again when Redis is back, whatever it has kept', async () => {
    const one = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    keeper.refresh((await sweep()).refreshed, gateway);
    await redis.restart('empty');
    await until(() => affinity.connected && !alarms.has('redis_unreachable'));
    const { refreshed } = await sweep();
    expect(refreshed.map(({ slot }) => slot)).toEqual([one.slot]);
    keeper.refresh(refreshed, gateway);
    await until(() => !gateway.slots.isRecorded(one.slot));
    await sweep();
    await until(() => held(one));
  });

  it('what a node has said of a flow reaches Redis, and the flow at a gateway that had not heard of it', async () => {
    const one = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    gateway.flows.program(one.key, 'drop');
    keeper.changed(one.key, gateway);
    await until(() => gateway.slots.isRecorded(one.slot));
    expect(await held(one)).toMatchObject({ gen: 2, path: 1, programmed: 'drop' });
    const other = flow(1, { recorded: true, pinGen: 1 });
    const key = flowRecordKey(other.key);
    const said = { gen: 2, path: 1, chain: 1, initiatorIsB: true, programmed: 'allow' as const };
    await affinity.repin({ key, record: said, ttlS: 60, expectedGen: 1 });
    gateway.slots.refreshAgain(other.slot);
    keeper.refresh((await sweep()).refreshed, gateway);
    await until(() => gateway.slots.pinGenOf(other.slot) === 2);
    const word = unpackFlowWord(gateway.flows.read(other.key)?.flow.word ?? 0n);
    expect(word).toMatchObject({ path: 1, action: abi.FlowAction.FLOW_ALLOW, initiatorIsB: true });
    expect(word.flags & abi.FlowWordFlag.WORD_FLAG_PROGRAMMED).not.toBe(0);
    expect(alarms.has('pins_conflict')).toBe(false); // it goes by no other node
  });

  it('loses nothing that a full Redis does not take: it stays marked, is counted and told, and is written once there is room', async () => {
    const recorded = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(recorded.slot));
    await askRedis(redis.url, 'CONFIG', 'SET', 'maxmemory', '1');
    const flows = [1, 2, 1].map((path) => flow(path));
    await sweep();
    await until(() => keeper.figures()['redis-not-written'] === 3n);
    expect(flows.map((one) => gateway.slots.isRecorded(one.slot))).toEqual([false, false, false]);
    expect(alarms.get('redis_refuses')).toContain('OOM');
    gateway.slots.refreshAgain(recorded.slot);
    keeper.refresh((await sweep()).refreshed, gateway);
    await until(() => Number.isFinite(gateway.slots.refreshedAtMs(recorded.slot)));
    await askRedis(redis.url, 'CONFIG', 'SET', 'maxmemory', '0');
    await until(() => !alarms.has('redis_refuses'));
    await sweep();
    await until(() => flows.every((one) => gateway.slots.isRecorded(one.slot)));
    for (const one of flows) expect(await held(one)).toMatchObject({ path: one.decision.path });
  });

  it('a refresh that fails is made again by the next sweep; a pin that was not removed is counted; both are told', async () => {
    const one = flow(1);
    await sweep();
    await until(() => gateway.slots.isRecorded(one.slot));
    await redis.stop();
    await until(() => alarms.has('redis_unreachable'));
    const { refreshed } = await sweep();
    expect(refreshed).toEqual([]);
    gateway.slots.refreshAgain(one.slot);
    keeper.refresh((await sweep()).refreshed, gateway);
    await until(() => gateway.slots.refreshedAtMs(one.slot) === Number.NEGATIVE_INFINITY);
    keeper.end([one.key]);
    await until(() => keeper.figures()['redis-ends-lost'] === 1n);
    expect(keeper.figures()['redis-not-refreshed']).toBe(1n);
    await redis.start();
    await until(() => !alarms.has('redis_unreachable'));
    keeper.refresh((await sweep()).refreshed, gateway);
    await until(() => Number.isFinite(gateway.slots.refreshedAtMs(one.slot)));
    expect(gateway.slots.isRecorded(one.slot)).toBe(true);
  });

  it('removes the pin of a connection that was reset, when its record goes', async () => {
    const [ended, other] = [flow(1), flow(1)];
    await sweep();
    await until(() => [ended, other].every((one) => gateway.slots.isRecorded(one.slot)));
    const lastNs = process.hrtime.bigint() - 11_000_000_000n;
    const counters = {
      packets: new BigUint64Array(2),
      bytes: new BigUint64Array(2),
      lastNs,
      resetMs: new Uint32Array(2),
      nextSeq: new Uint32Array(2),
    };
    object
      .map('flow_counters')
      .update(
        new Uint8Array(Uint32Array.of(ended.slot).buffer),
        abi.flowCounters.encode({ ...counters, seen: abi.FlowSeen.SEEN_RST }),
      );
    await sweep();
    await until(async () => (await held(ended)) === null);
    expect(gateway.flows.read(ended.key)).toBeNull();
    expect(await held(other)).not.toBeNull();
    await until(() => keeper.figures()['redis-ended'] === 1n);
  });

  it('thousands of re-pins at once are all written', async () => {
    const flows = Array.from({ length: 3_000 }, () => flow(1));
    await until(async () => (await sweep()).unrecorded === 0, { everyMs: 100 });
    for (const key of flows.map((one) => moveInKernel(one, 2))) keeper.changed(key, gateway);
    expect(keeper.figures()['redis-repins-waiting']).toBe(3_000n);
    await until(() => keeper.figures()['redis-repins-waiting'] === 0n);
    // The sweep comes back to those that Redis had no time for.
    await until(async () => (await sweep()).unrecorded === 0, { everyMs: 100 });
    for (const one of [flows[0], flows[1_500], flows.at(-1)])
      expect(await held(one ?? expect.fail())).toMatchObject({ path: 2, gen: 2 });
  }, 90_000);
});
