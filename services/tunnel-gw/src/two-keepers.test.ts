// SPDX-License-Identifier: Apache-2.0
// Two gateways with the same flows, one of which is cut off from Redis while flows begin, are moved and are spoken of on both sides: real maps,
// real keepers, a real Redis. Once they meet, every flow goes one way, in Redis and at both, and it is the way that the written rule names.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { winnerOf } from '@detour/affinity';
import { type BpfObject, openObject } from '@detour/bpf';
import { type FlowRecord, flowRecordKey } from '@detour/contracts';
import { type RedisServer, type Relay, startRedis, startRelay, until } from '@detour/testkit';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { openPinRig, type PinRig, RIG_MAPS } from './pin-rig.js';
import { flowQuestion } from './testdata.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));
const LONG = { timeoutMs: 30_000, everyMs: 50 };
const FLOWS = 60;

let redis: RedisServer;
let relays: Relay[];
let objects: BpfObject[];
let rigs: PinRig[];

beforeAll(async () => {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  redis = await startRedis({ unix: false });
  const port = Number(new URL(redis.url).port);
  relays = [await startRelay(port), await startRelay(port)];
  objects = relays.map(() => openObject(`${DATAPATH}build/edge.bpf.o`, { maxEntries: RIG_MAPS }));
  rigs = relays.map((relay, i) =>
    openPinRig({ object: objects[i] ?? expect.fail(), url: `redis://127.0.0.1:${relay.port}` }),
  );
});
afterAll(async () => {
  for (const rig of rigs) await rig[Symbol.asyncDispose]();
  for (const object of objects) object.close();
  for (const relay of relays) await relay[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

type Step =
  | { readonly at: number; readonly flow: number; readonly path: number }
  | { readonly at: number; readonly flow: number; readonly said: 'allow' | 'drop' };

const at = fc.nat(1);
const flow = fc.nat(FLOWS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ at, flow, path: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 1, arbitrary: fc.record({ at, flow, said: fc.constantFrom('allow' as const, 'drop' as const) }) },
);
const steps = fc.array(step, { minLength: 100, maxLength: 200, size: 'max' });

/** A packet of a flow that begins here goes by this path; one that is known is moved there, as the kernel does it when a path goes down. */
function take({ gateway, keeper, pinOf }: PinRig, question: FlowQuestion, step: Step): void {
  const { key } = question;
  const pin = pinOf(key);
  if ('said' in step) {
    if (pin === null || gateway.flows.program(key, step.said) === null) return;
  } else {
    const decision: FlowDecision = {
      ...{ action: 'steer' as const, rule: 1, chain: 1, path: step.path, initiatorIsB: question.norm === 1 },
      ...{ pinGen: 0, recorded: false, by: 'last-tables' as const, why: '' },
    };
    if (pin === null) return void gateway.flows.install(question, decision, 1);
    if (pin.record.path === step.path || pin.record.programmed !== undefined) return;
    gateway.flows.replace(key, decision);
  }
  keeper.changed(key, gateway);
}

/** Sweeps until a whole one has nothing to write, and every pin was compared. */
async function settle(rig: PinRig): Promise<void> {
  const figure = (name: string) => rig.keeper.figures()[name] ?? 0n;
  const isIdle = () => figure('redis-repins-waiting') === 0n && figure('redis-batches-waiting') === 0n;
  await until(async () => {
    rig.gateway.slots.refreshAllAgain();
    const { refreshed, unrecorded } = await rig.sweep();
    rig.keeper.refresh(refreshed, rig.gateway);
    await until(isIdle, LONG);
    return unrecorded === 0;
  }, LONG);
}

let sport = 1_000;

it('two gateways, of which one was cut off from Redis, agree on every flow once they meet, and on the one that the rule names', async () => {
  const [one, two] = rigs;
  if (one === undefined || two === undefined) throw new Error('two gateways are needed');
  await fc.assert(
    fc.asyncProperty(steps, steps, at, async (before, during, cut) => {
      const questions = Array.from({ length: FLOWS }, () => flowQuestion({ sport: sport++, syn: false }));
      const run = (all: readonly Step[]) => {
        for (const step of all)
          take(rigs[step.at] ?? expect.fail(), questions[step.flow] ?? expect.fail(), step);
      };
      const [relay, lost] = [relays[cut] ?? expect.fail(), rigs[cut] ?? expect.fail()];
      await until(() => rigs.every(({ affinity }) => affinity.connected), LONG);
      run(before);
      await Promise.all(rigs.map(settle));
      relay.cut();
      run(during);
      await rigs[1 - cut]?.sweep();
      await lost.sweep();
      await until(() => lost.alarms.has('redis_unreachable'), LONG);
      await settle(rigs[1 - cut] ?? expect.fail());
      const expected = new Map<FlowQuestion, FlowRecord>();
      for (const question of questions) {
        const pins = rigs.flatMap((rig) => rig.pinOf(question.key)?.record ?? []);
        if (pins.length > 0) expected.set(question, pins.reduce(winnerOf));
      }
      relay.mend();
      await until(() => !lost.alarms.has('redis_unreachable'), LONG);
      for (let round = 0; round < 2; round++) await Promise.all(rigs.map(settle));
      for (const [{ key }, winner] of expected) {
        const held = await until(async () => {
          const [answer] = await one.affinity.lookUp([flowRecordKey(key)]);
          return answer?.ok === true ? { is: answer.value } : null; // on a busy machine an answer may be late
        }, LONG);
        expect(held).toEqual({ is: winner });
        for (const rig of rigs) expect(rig.pinOf(key)?.record ?? winner).toEqual(winner);
      }
      expect(expected.size).toBeGreaterThan(FLOWS / 4);
    }),
    { numRuns: 5, endOnFailure: true },
  );
  expect(Number(one.keeper.figures()['redis-adopted'] ?? 0n)).toBeGreaterThan(0);
}, 180_000);
