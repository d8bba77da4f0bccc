// SPDX-License-Identifier: Apache-2.0
// The whole path-selector on a real nats-server and a real redis-server, asked over real gRPC.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { openAffinity } from '@detour/affinity';
import { type Bus, connectBus, type IntentStore, openIntentStore, openState, type State } from '@detour/bus';
import {
  type ChainRow,
  flowRecordKey,
  PathSelectorClient,
  PathSource,
  type SelectAnswer,
  type SelectAnswers,
  type SelectBatch,
  type SelectQuestion,
  stateKey,
} from '@detour/contracts';
import { hashKeyFromHex, normaliseTuple, PROTO, parseAddress, silentLog, type Tuple } from '@detour/core';
import { openStream, QuestionStream, TableStream } from '@detour/rpc';
import { ResourceStack } from '@detour/runtime';
import { choosePath, digestChains, expandChain, validateChains } from '@detour/tables';
import {
  applyRevision,
  hostService,
  type NatsServer,
  type RedisServer,
  revisionOf,
  startNats,
  startRedis,
  until,
} from '@detour/testkit';
import { metrics } from '@opentelemetry/api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settings } from './config.js';
import { exampleText } from './testdata.js';
import { wirePathSelector } from './wire.js';

const resources = new ResourceStack();
let nats: NatsServer;
let redis: RedisServer;
let bus: Bus;
let state: State;
let store: IntentStore;
beforeAll(async () => {
  [nats, redis] = await Promise.all([startNats(), startRedis()]);
  resources.use(nats);
  resources.use(redis);
  bus = resources.use(
    connectBus({ servers: [nats.url], name: 'test', signal: new AbortController().signal, log: silentLog }),
  );
  await bus.whenConnected();
  state = openState(bus);
  store = openIntentStore(bus);
});
afterAll(() => resources[Symbol.asyncDispose]());

/** One selector with a gateway's table stream and a way to ask; all closed by the test. */
async function startSelector(instance: string, gateway = 'edge1') {
  const own = new ResourceStack();
  const hosted = own.use(
    await hostService({
      name: 'path-selector',
      settings,
      wire: (ctx) => wirePathSelector(ctx, metrics.getMeter('test')),
      env: {
        DETOUR_NATS: nats.url,
        DETOUR_REDIS: redis.url,
        DETOUR_INSTANCE: instance,
        DETOUR_REDIS_BUDGET: '200ms',
      },
    }),
  );
  const { address } = hosted.parts;
  const updates: number[] = [];
  const table = own.use(
    new TableStream<ChainRow>({
      ...{
        name: 'paths',
        key: gateway,
        gateway,
        instances: () => [address],
        log: silentLog,
        digest: digestChains,
      },
      open: (to) => openStream(PathSelectorClient, to, (client) => client.watchPaths()),
      validate: (rows) => validateChains(rows),
      apply: async ({ upserts }) => {
        updates.push(upserts.length);
        return { ok: true };
      },
    }),
  );
  const questions = own.use(
    new QuestionStream<SelectQuestion, SelectAnswer, SelectBatch, SelectAnswers>({
      ...{ name: 'select', key: gateway, instances: () => [address], log: silentLog, timeoutMs: 5_000 },
      open: (to) => openStream(PathSelectorClient, to, (client) => client.selectPath()),
      pack: (batch) => ({ questions: batch }),
      unpack: (batch) => batch.answers,
    }),
  );
  const ask = (tuple: Tuple, more: Partial<SelectQuestion> = {}) =>
    questions.ask({ ...{ traceparent: '', gateway, tuple, chain: 1, rule: 1, midflow: false }, ...more });
  const live = (revision: number) => until(() => table.version?.revision === revision);
  return { hosted, table, updates, ask, live, [Symbol.asyncDispose]: () => own[Symbol.asyncDispose]() };
}

const bytes = (text: string) => parseAddress(text) ?? new Uint8Array();
let nextPort = 1000;
/** A flow that no test has used. */
const newFlow = (): Tuple => ({
  ...{ vrf: 1, src: bytes('10.1.0.1'), dst: bytes('203.0.113.9') },
  ...{ sport: nextPort++, dport: 443, proto: PROTO.tcp },
});
const keyOf = (tuple: Tuple) => flowRecordKey(normaliseTuple(tuple).key);

let revision = 0;
async function apply(firewalls: readonly string[], chain = '') {
  revision++;
  const made = revisionOf(exampleText({ firewalls, chain }), { revision });
  await applyRevision({ state, store }, made);
  return made;
}
const score = (node: string, value: number, fresh = true) =>
  state.put(stateKey.score(node), { score: value, fresh, why: '', atMs: 0 });
const health = (gateway: string, node: string, what: string) =>
  state.put(stateKey.health(gateway, node, ''), { state: what, source: 'bfd', why: '', atMs: 0 });
const weights = (rows: readonly ChainRow[]) => rows[0]?.paths.map(({ weight }) => weight);

describe('path-selector', () => {
  it('LB-1 chooses as the gateway itself would, by the published scores, and says why', async () => {
    await using one = await startSelector('p1');
    await until(() => one.hosted.readiness.report().ready);
    expect((await one.ask(newFlow())).error).toContain('no revision');
    for (const [node, value] of [
      ['fw1', 50],
      ['fw2', 100],
      ['fw3', 50],
    ] as const)
      await score(node, value);
    const made = await apply(['', '', '']);
    await one.live(made.revision);
    const [row] = one.table.rows;
    if (row === undefined) throw new Error('no row');
    expect(weights(one.table.rows)).toEqual([500, 1000, 500]);
    const expanded = expandChain(row, () => 'up');
    const secret = hashKeyFromHex(made.selectionKey);
    const flows = Array.from({ length: 400 }, newFlow);
    const answers = await Promise.all(flows.map((flow) => one.ask(flow)));
    for (const [i, flow] of flows.entries()) {
      const { key, norm } = normaliseTuple(flow);
      expect(answers[i]).toMatchObject({
        path: choosePath(expanded, key, { initiatorIsB: norm === 1, secret }),
        source: PathSource.SELECTED,
        pinGen: 1,
        error: '',
      });
    }
    expect(answers[0]?.version).toEqual(one.table.version);
    expect(answers[0]?.why).toMatch(/^path \d of chain inspect, weight (500|1000) of 2000$/);
    expect((await one.ask(newFlow(), { chain: 9 })).error).toBe(
      `chain 9 is not in revision ${made.revision}`,
    );
    for (const node of ['fw1', 'fw2', 'fw3']) await state.delete(stateKey.score(node));
  });

  it('LB-10 finds the pin again whoever asks, in either direction, and lets it expire with the chain’s idle timeout', async () => {
    await apply(['', ''], 'idleTimeout: { tcp: 10m, udp: 30s, other: 5s }');
    await using one = await startSelector('p2');
    await using two = await startSelector('p3', 'edge2');
    await Promise.all([one.live(revision), two.live(revision)]);
    const flow = newFlow();
    const first = await one.ask(flow);
    const again = await two.ask(flow, { midflow: true });
    expect(again).toMatchObject({ path: first.path, source: PathSource.PINNED, pinGen: 1 });
    const back: Tuple = { ...flow, src: flow.dst, dst: flow.src, sport: flow.dport, dport: flow.sport };
    expect(await two.ask(back)).toMatchObject({ path: first.path, source: PathSource.PINNED });
    const client = resources.use(openAffinity({ url: redis.url, log: silentLog, budgetMs: 1000 }));
    await until(() => client.connected);
    const held = await client.lookUp([keyOf(flow)]);
    expect(held.ok && held.value[0]).toMatchObject({ gen: 1, path: first.path, chain: 1 });
    const { stdout } = await promisify(execFile)('redis-cli', ['-s', redis.url.slice(5), 'ttl', keyOf(flow)]);
    expect(Number(stdout)).toBeGreaterThan(590);
    expect(Number(stdout)).toBeLessThanOrEqual(600);
  });

  it('LB-6 two replicas give byte-identical tables under one version, also one that came later', async () => {
    await using one = await startSelector('p4');
    const made = await apply(['capacity: 33', 'capacity: 77', '']);
    await one.live(made.revision);
    await score('fw1', 12.345);
    await score('fw2', 67.89);
    const sequence = await state.put(stateKey.drain('fw3'), { draining: true, by: 'test', atMs: 0 });
    await until(() => one.table.version?.sequence === sequence);
    await using two = await startSelector('p5');
    await until(() => two.table.version?.sequence === sequence);
    expect(two.table.version).toEqual(one.table.version);
    expect(weights(one.table.rows)).toEqual([182, 1000, 0]);
    const bytesOf = (rows: readonly ChainRow[]) => Buffer.from(digestChains(rows)).toString('hex');
    expect(bytesOf(two.table.rows)).toBe(bytesOf(one.table.rows));
    await state.put(stateKey.drain('fw3'), { draining: false, by: 'test', atMs: 0 });
    for (const node of ['fw1', 'fw2']) await state.delete(stateKey.score(node));
  });

  it('LB-2 gathers a burst of scores into few updates, and sends the last of them soon', async () => {
    const made = await apply(['', '']);
    await using one = await startSelector('p6');
    await one.live(made.revision);
    one.updates.length = 0;
    await Promise.all(Array.from({ length: 60 }, (_, i) => score('fw1', 50 + (i % 10))));
    const sequence = await score('fw1', 25);
    await until(() => one.table.version?.sequence === sequence);
    expect(weights(one.table.rows)).toEqual([250, 1000]);
    expect(one.updates.length).toBeLessThan(30);
    await state.delete(stateKey.score('fw1'));
  });

  it('LB-5 a stale node gets no new flow; all stale, declared capacity counts, with an alarm', async () => {
    const made = await apply(['capacity: 50', '']);
    await score('fw1', 0, false);
    await using one = await startSelector('p7');
    await one.live(made.revision);
    const paths = new Set(
      (await Promise.all(Array.from({ length: 50 }, () => one.ask(newFlow())))).map(({ path }) => path),
    );
    expect([...paths]).toEqual([made.numbers.paths['inspect:fw2']]);
    await score('fw2', 0, false);
    const alarm = stateKey.alarm('path-selector-p7', 'all_stale', 'inspect');
    await until(() => state.get(alarm));
    const any = await Promise.all(Array.from({ length: 100 }, () => one.ask(newFlow())));
    expect(new Set(any.map(({ path }) => path)).size).toBe(2);
    expect(any[0]?.why).toContain('by declared capacity: no score is fresh');
    for (const node of ['fw1', 'fw2']) await state.delete(stateKey.score(node));
    await until(async () => (await state.get(alarm)) === null);
  });

  it('LB-9 re-pins a flow whose node is down for its gateway, once for all gateways; keep leaves it', async () => {
    for (const gateway of ['edge1', 'edge2'])
      for (const node of ['fw1', 'fw2']) await health(gateway, node, 'up');
    const made = await apply(['health: fast', 'health: fast']);
    const [fw1, fw2] = [made.numbers.paths['inspect:fw1'], made.numbers.paths['inspect:fw2']];
    await using one = await startSelector('p8');
    await using two = await startSelector('p9', 'edge2');
    await Promise.all([one.live(made.revision), two.live(made.revision)]);
    const flows = Array.from({ length: 60 }, newFlow);
    const before = await Promise.all(flows.map((flow) => one.ask(flow)));
    await health('edge1', 'fw1', 'down');
    await until(async () => (await one.ask(newFlow())).why.includes('of 1000'));
    const after = await Promise.all(flows.map((flow) => one.ask(flow)));
    for (const [i, answer] of after.entries()) {
      if (before[i]?.path === fw2)
        expect(answer).toMatchObject({ path: fw2, source: PathSource.PINNED, pinGen: 1 });
      else {
        expect(answer).toMatchObject({ path: fw2, source: PathSource.REPINNED, pinGen: 2 });
        expect(answer.why).toContain(`was pinned to path ${fw1}, which is down (fw1 is down)`);
      }
    }
    expect(after.filter(({ source }) => source === PathSource.REPINNED).length).toBeGreaterThan(10);
    const elsewhere = await Promise.all(flows.map((flow) => two.ask(flow)));
    expect(elsewhere.map(({ path, pinGen }) => [path, pinGen])).toEqual(
      after.map(({ path, pinGen }) => [path, pinGen]),
    );

    await health('edge1', 'fw2', 'down');
    await until(async () => (await one.ask(newFlow())).path === 0);
    const nothing = await one.ask(newFlow());
    expect(nothing.why).toBe('chain inspect: no path takes new flows (fw1 is down, fw2 is down)');

    await apply(['health: fast', 'health: fast'], 'onNodeDown: keep');
    await one.live(revision);
    const kept = await one.ask(flows[0] ?? newFlow());
    expect(kept).toMatchObject({ path: fw2, source: PathSource.PINNED });
    expect(kept.why).toContain('kept though fw2 is down');
  });

  it('PSEL-9 LB-12 a drained path keeps its pinned flows and gets no new one', async () => {
    const made = await apply(['', '']);
    await using one = await startSelector('p10');
    await one.live(made.revision);
    const flows = Array.from({ length: 40 }, newFlow);
    const before = await Promise.all(flows.map((flow) => one.ask(flow)));
    const drain = (draining: boolean) =>
      Promise.all(
        ['fw1', 'fw2'].map((node) => state.put(stateKey.drain(node), { draining, by: 'test', atMs: 0 })),
      );
    await drain(true);
    await until(() => weights(one.table.rows)?.every((weight) => weight === 0));
    const after = await Promise.all(flows.map((flow) => one.ask(flow, { midflow: true })));
    expect(after.map(({ path, source }) => [path, source])).toEqual(
      before.map(({ path }) => [path, PathSource.PINNED]),
    );
    expect((await one.ask(newFlow())).path).toBe(0);
    await drain(false);
    await until(() => weights(one.table.rows)?.every((weight) => weight > 0));
  });

  it('answers unrecorded while Redis is stopped or silent, with an alarm, and records again once it is back', async () => {
    const made = await apply(['', '']);
    await using one = await startSelector('p11');
    await one.live(made.revision);
    const flow = newFlow();
    await redis.stop();
    const alarm = stateKey.alarm('path-selector-p11', 'redis_unreachable', '');
    await until(() => state.get(alarm));
    const chosen = await one.ask(flow);
    expect(chosen).toMatchObject({ source: PathSource.UNRECORDED, pinGen: 0, error: '' });
    expect(chosen.path).toBeGreaterThan(0);
    expect(chosen.why).toContain('not recorded: Redis at');
    await redis.start();
    const recorded = await until(async () => {
      const answer = await one.ask(flow);
      return answer.source === PathSource.UNRECORDED ? null : answer;
    });
    expect(recorded).toMatchObject({ path: chosen.path, source: PathSource.SELECTED, pinGen: 1 });
    await until(async () => (await state.get(alarm)) === null);
    redis.pause();
    expect(await one.ask(newFlow())).toMatchObject({ source: PathSource.UNRECORDED, error: '' });
    redis.resume();
    await until(async () => (await one.ask(flow)).source === PathSource.PINNED);
  });

  it('answers from its last table while NATS is away, and heals when it is back, also without its store', async () => {
    const made = await apply(['', '']);
    await using one = await startSelector('p12');
    await one.live(made.revision);
    await nats.stop();
    expect(await one.ask(newFlow())).toMatchObject({ source: PathSource.SELECTED, error: '' });
    await nats.start();
    await bus.whenConnected();
    await score('fw1', 10);
    await until(() => weights(one.table.rows)?.[0] === 100, { timeoutMs: 10_000 });
    const epoch = one.table.version?.epoch;
    await nats.restart('empty');
    await bus.whenConnected();
    expect(await one.ask(newFlow())).toMatchObject({ source: PathSource.SELECTED, error: '' });
    const anew = await apply(['', '', '']);
    await until(() => one.table.version?.revision === anew.revision && one.table.version.epoch !== epoch, {
      timeoutMs: 10_000,
    });
    expect(weights(one.table.rows)).toEqual([1000, 1000, 1000]);
  });
});
