// SPDX-License-Identifier: Apache-2.0
// On a real nats-server that is stopped, emptied and frozen.
import { alarmSubject, stateKey } from '@detour/contracts';
import { Fault, silentLog, systemClock } from '@detour/core';
import { faultCodeOf, freePort, startNats, startTestBus, type TestBus, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AlarmBook, type AlarmEvent } from './alarms.js';
import { openIntentStore } from './intent-store.js';
import { openState } from './state.js';

let test: TestBus;
beforeEach(async () => {
  test = await startTestBus();
});
afterEach(() => test[Symbol.asyncDispose]());

describe('connectBus', () => {
  it('starts before NATS is there', async () => {
    const port = await freePort();
    const early = test.connect(`nats://127.0.0.1:${port}`);
    const state = openState(early);
    expect(await faultCodeOf(state.put('score.a', 1))).toBe('unavailable');
    const mirror = state.watch();
    await using _late = await startNats({ port });
    await early.whenConnected();
    await mirror.caughtUp;
    expect(await state.put('score.a', { x: 1 })).toBe(1n);
    await until(() => mirror.get('score.a'));
    expect(mirror.get('score.a')).toEqual({ key: 'score.a', value: { x: 1 }, revision: 1n });
    await mirror[Symbol.asyncDispose]();
  });

  it('stops waiting when the process stops', async () => {
    const waiting = test.connect(`nats://127.0.0.1:${await freePort()}`).whenConnected();
    test.life.abort(new Fault('unavailable', 'stopping'));
    expect(await faultCodeOf(waiting)).toBe('unavailable');
  });

  it('says that JetStream is missing', async () => {
    await using plain = await startNats({ jetstream: false });
    const state = openState(test.connect(plain.url));
    await state.bus.whenConnected();
    await expect(state.put('score.a', 1)).rejects.toThrow(/JetStream/i);
  });
});

describe('openState', () => {
  it('compares and sets by revision', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    const first = await state.cas('intent.head', { revision: 1 }, 0n);
    expect(await faultCodeOf(state.cas('intent.head', { revision: 2 }, 0n))).toBe('conflict');
    const second = await state.cas('intent.head', { revision: 2 }, first);
    expect(await faultCodeOf(state.cas('intent.head', { revision: 3 }, first))).toBe('conflict');
    expect(await state.get('intent.head')).toEqual({
      key: 'intent.head',
      value: { revision: 2 },
      revision: second,
    });
    await state.delete('intent.head');
    expect(await state.get('intent.head')).toBeNull();
    expect(await state.cas('intent.head', { revision: 4 }, 0n)).toBeGreaterThan(second);
    await state.delete('never.was');
  });

  it('answers a Fault soon when NATS is frozen', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    await test.nats.pause();
    const since = performance.now();
    expect(['timeout', 'unavailable']).toContain(await faultCodeOf(state.put('score.a', 2)));
    expect(performance.now() - since).toBeLessThan(4_000);
    test.nats.resume();
    await until(async () => (await faultCodeOf(state.put('score.a', 3))) === null);
  });
});

describe('openIntentStore', () => {
  it('stores by digest, reads back verified, and says what is missing', async () => {
    const bus = test.connect();
    const store = openIntentStore(bus);
    expect(await faultCodeOf(store.put(new Uint8Array(1)))).toBe('unavailable');
    await bus.whenConnected();
    const bytes = new Uint8Array(300_000).map((_, i) => i % 251);
    const sha256 = await store.put(bytes);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(await store.put(bytes)).toBe(sha256);
    expect(Buffer.compare(await store.get(sha256), bytes)).toBe(0);
    expect(await faultCodeOf(store.get('0'.repeat(64)))).toBe('not_found');
    expect(await faultCodeOf(store.put(new Uint8Array(9_000_000)))).toBe('invalid');
  });
});

describe('IntentStore.get', () => {
  it('reads a document of one chunk without a consumer, and only a longer one with it', async () => {
    const bus = test.connect();
    await bus.whenConnected();
    const store = openIntentStore(bus);
    const short = new TextEncoder().encode(JSON.stringify({ small: 'document' }));
    const long = new Uint8Array(300_000).map((_, i) => i % 249);
    const names = [await store.put(short), await store.put(long)];
    const asked: string[] = [];
    const connection = bus.connection();
    connection.subscribe('$JS.API.>', { callback: (_error, { subject }) => void asked.push(subject) });
    await connection.flush();
    const consumers = () => asked.filter((subject) => subject.includes('.CONSUMER.')).length;
    expect(Buffer.compare(await store.get(names[0] ?? ''), short)).toBe(0);
    await connection.flush();
    expect(asked.map((subject) => subject.split('.').slice(0, 5).join('.'))).toEqual(
      Array(2).fill('$JS.API.DIRECT.GET.OBJ_detour-intent'),
    );
    expect(Buffer.compare(await store.get(names[1] ?? ''), long)).toBe(0);
    await connection.flush();
    expect(consumers()).toBeGreaterThan(0);
  });
});

describe('AlarmBook', () => {
  const book = (state: ReturnType<typeof openState>) =>
    new AlarmBook({ bus: state.bus, state, source: 'edge1-bfd', clock: systemClock(), log: silentLog });

  it('writes a row and publishes rise and fall', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    const events: AlarmEvent[] = [];
    state.bus.connection().subscribe(alarmSubject('node_down'), {
      callback: (_error, message) => {
        events.push(message.json<AlarmEvent>());
      },
    });
    await state.bus.connection().flush();
    await using alarms = book(state);
    alarms.raise('node_down', 'fw1/red', 'no answer');
    alarms.raise('node_down', 'fw1/red', 'no answer');
    const key = stateKey.alarm('edge1-bfd', 'node_down', 'fw1/red');
    const row = await until(() => state.get(key));
    expect(row.value).toMatchObject({ text: 'no answer', active: true });
    alarms.clear('node_down', 'fw1/red');
    await until(async () => (await state.get(key)) === null);
    await until(() => events.length === 2);
    expect(events.map((event) => [event.subject, event.active])).toEqual([
      ['fw1/red', true],
      ['fw1/red', false],
    ]);
  });

  it('remembers while NATS is away, and removes what a former life left', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    const left = stateKey.alarm('edge1-bfd', 'old', '');
    await state.put(left, { text: 'x', sinceMs: 1, active: true });
    await test.nats.stop();
    await until(() => !state.bus.connected);
    await using alarms = book(state);
    alarms.raise('node_down', '', 'no answer');
    expect(alarms.active()).toHaveLength(1);
    await test.nats.start();
    await until(() => state.get(stateKey.alarm('edge1-bfd', 'node_down', '')), { timeoutMs: 15_000 });
    await until(async () => (await state.get(left)) === null);
    await test.nats.restart('empty');
    await until(() => state.get(stateKey.alarm('edge1-bfd', 'node_down', '')), { timeoutMs: 15_000 });
  });
});
