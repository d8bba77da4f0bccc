// SPDX-License-Identifier: Apache-2.0
// The whole classifier on a real nats-server, asked over real gRPC.
import { type Bus, connectBus, type IntentStore, openIntentStore, openState, type State } from '@detour/bus';
import {
  ClassifierClient,
  type ClassifyAnswer,
  type ClassifyAnswers,
  type ClassifyBatch,
  type ClassifyQuestion,
  RuleAction,
  type RuleRow,
  stateKey,
} from '@detour/contracts';
import { PROTO, parseAddress, silentLog } from '@detour/core';
import { openStream, QuestionStream, TableStream } from '@detour/rpc';
import { ResourceStack } from '@detour/runtime';
import { digestRules, validateRules } from '@detour/tables';
import { applyRevision, hostService, type NatsServer, revisionOf, startNats, until } from '@detour/testkit';
import { metrics } from '@opentelemetry/api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settings } from './config.js';
import { exampleText } from './testdata.js';
import { wireClassifier } from './wire.js';

const rule = (name: string, priority: number, more = '') =>
  `{ name: ${name}, priority: ${priority}, match: { vrf: red, source: [10.${priority}.0.0/16]${more} }, action: { chain: inspect } }`;

const resources = new ResourceStack();
let nats: NatsServer;
let bus: Bus;
let state: State;
let store: IntentStore;
beforeAll(async () => {
  nats = resources.use(await startNats());
  bus = resources.use(
    connectBus({ servers: [nats.url], name: 'test', signal: new AbortController().signal, log: silentLog }),
  );
  await bus.whenConnected();
  state = openState(bus);
  store = openIntentStore(bus);
});
afterAll(() => resources[Symbol.asyncDispose]());

async function startClassifier(instance: string) {
  const hosted = await hostService({
    name: 'classifier',
    settings,
    wire: (ctx) => wireClassifier(ctx, metrics.getMeter('test')),
    env: { DETOUR_NATS: nats.url, DETOUR_INSTANCE: instance },
  });
  return resources.use(hosted);
}

function watchRules(
  address: string,
  gateway: string,
  apply: (rows: readonly RuleRow[]) => string | null = () => null,
) {
  const updates: { full: boolean; upserts: number; removes: number }[] = [];
  const stream = resources.use(
    new TableStream<RuleRow>({
      ...{
        name: 'rules',
        key: gateway,
        gateway,
        instances: () => [address],
        log: silentLog,
        digest: digestRules,
      },
      open: (to) => openStream(ClassifierClient, to, (client) => client.watchRules()),
      validate: (rows) => validateRules(rows),
      apply: async ({ rows, full, upserts, removes }) => {
        updates.push({ full, upserts: upserts.length, removes: removes.length });
        const why = apply(rows);
        return why === null ? { ok: true } : { ok: false, row: 'rule x', why };
      },
    }),
  );
  return { stream, updates };
}

function askClassifier(address: string) {
  return resources.use(
    new QuestionStream<ClassifyQuestion, ClassifyAnswer, ClassifyBatch, ClassifyAnswers>({
      ...{ name: 'classify', key: 'edge1', instances: () => [address], log: silentLog, timeoutMs: 2_000 },
      open: (to) => openStream(ClassifierClient, to, (client) => client.classify()),
      pack: (questions) => ({ questions }),
      unpack: (batch) => batch.answers,
    }),
  );
}

const bytes = (text: string) => parseAddress(text) ?? new Uint8Array();
const flowFrom = (src: string, port = 1) => ({
  ...{ traceparent: '', gateway: 'edge1', port, syn: true },
  tuple: { vrf: 1, src: bytes(src), dst: bytes('203.0.113.9'), sport: 4000, dport: 443, proto: PROTO.tcp },
});

describe('classifier', () => {
  it('follows revisions: tables as differences, answers from the revision in force, alarms for what leads nowhere', async () => {
    const one = await startClassifier('c1');
    await until(() => one.readiness.report().ready);
    const ask = askClassifier(one.parts.address);
    expect((await ask.ask(flowFrom('10.1.0.1'))).error).toContain('no revision');

    const first = revisionOf(exampleText([rule('r1', 1), rule('r2', 2), rule('r3', 3)]));
    const sequence = await applyRevision({ state, store }, first);
    const { stream, updates } = watchRules(one.parts.address, 'edge1');
    await until(() => stream.rows.length === 3);
    expect(stream.version).toMatchObject({ sequence, revision: 1 });
    const answer = await ask.ask(flowFrom('10.2.7.7'));
    expect(answer).toMatchObject({ action: RuleAction.CHAIN, rule: first.numbers.rules.r2, error: '' });
    expect(answer.version).toEqual(stream.version);
    expect(answer.why).toContain('rule r2 (priority 2): source 10.2.7.7 in 10.2.0.0/16');
    expect((await ask.ask(flowFrom('10.9.0.1'))).why).toContain('no rule');

    const lost =
      '{ name: lost, priority: 9, match: { vrf: red, source: [10.9.0.0/16] }, action: { chain: r9 } }';
    const text = exampleText([rule('r1', 1), rule('r3', 3, ', protocol: udp'), lost]);
    await applyRevision({ state, store }, revisionOf(text, { revision: 2, mode: 'partial', before: first }));
    await until(() => stream.version?.revision === 2);
    expect(updates).toEqual([
      { full: true, upserts: 3, removes: 0 },
      { full: false, upserts: 2, removes: 1 },
    ]);
    expect((await ask.ask(flowFrom('10.9.0.1'))).action).toBe(RuleAction.UNRESOLVED);
    const alarm = stateKey.alarm('classifier-c1', 'rule_unresolved', 'lost');
    await until(() => state.get(alarm));

    await applyRevision(
      { state, store },
      revisionOf(exampleText([rule('r1', 1)]), { revision: 3, before: first }),
    );
    await until(async () => (await state.get(alarm)) === null);
  });

  it('LB-6 two replicas publish byte-identical rules under one version', async () => {
    const [one, two] = [await startClassifier('c2'), await startClassifier('c3')];
    const tables = [one, two].map((hosted) => watchRules(hosted.parts.address, 'edge1').stream);
    await applyRevision(
      { state, store },
      revisionOf(exampleText([rule('r1', 1), rule('r2', 2)]), { revision: 10 }),
    );
    await until(() => tables.every((table) => table.version?.revision === 10));
    expect(tables[0]?.version).toEqual(tables[1]?.version);
    const digests = tables.map((table) => Buffer.from(digestRules(table.rows)).toString('hex'));
    expect(digests[0]).toBe(digests[1]);
  });

  it('keeps its table under a revision that cannot be read, and says so', async () => {
    const one = await startClassifier('c4');
    const { stream } = watchRules(one.parts.address, 'edge1');
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r1', 1)]), { revision: 20 }));
    await until(() => stream.version?.revision === 20);
    const sha256 = await store.put(Buffer.from('{ "revision": 21 }'));
    await state.put(stateKey.intentHead(), { revision: 21, sha256, atMs: 0, author: 'test' });
    const alarm = stateKey.alarm('classifier-c4', 'intent_refused', '');
    const raised = await until(() => state.get(alarm));
    expect(raised.value).toMatchObject({ text: expect.stringContaining('cannot use revision 21') });
    expect(stream.version?.revision).toBe(20);
    expect((await askClassifier(one.parts.address).ask(flowFrom('10.1.0.1'))).version?.revision).toBe(20);
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r1', 1)]), { revision: 22 }));
    await until(() => stream.version?.revision === 22);
    await until(async () => (await state.get(alarm)) === null);
  });

  it('a gateway that refuses a table is named in an alarm until it takes one', async () => {
    const one = await startClassifier('c5');
    let refuse = true;
    const { stream } = watchRules(one.parts.address, 'edge2', () => (refuse ? 'no room' : null));
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r1', 1)]), { revision: 30 }));
    const alarm = stateKey.alarm('classifier-c5', 'table_refused', 'edge2');
    const raised = await until(() => state.get(alarm));
    expect(raised.value).toMatchObject({ text: expect.stringContaining('no room') });
    refuse = false;
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r1', 1)]), { revision: 31 }));
    await until(() => stream.version?.revision === 31);
    await until(async () => (await state.get(alarm)) === null);
  });

  it('answers from its last table while NATS is away, and follows again when it is back', async () => {
    const one = await startClassifier('c6');
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r1', 1)]), { revision: 40 }));
    const { stream } = watchRules(one.parts.address, 'edge1');
    await until(() => stream.version?.revision === 40);
    const ask = askClassifier(one.parts.address);
    await nats.stop();
    expect((await ask.ask(flowFrom('10.1.0.1'))).version?.revision).toBe(40);
    await nats.restart('keep');
    await bus.whenConnected();
    await applyRevision({ state, store }, revisionOf(exampleText([rule('r2', 2)]), { revision: 41 }));
    await until(() => stream.version?.revision === 41, { timeoutMs: 10_000 });
  });
});
