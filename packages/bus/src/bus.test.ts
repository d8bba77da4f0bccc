// SPDX-License-Identifier: Apache-2.0
// On a real nats-server that is stopped, emptied and frozen.
import { alarmSubject, HEARTBEAT_MS, INSTANCE_EXPIRY_MS, stateKey } from '@detour/contracts';
import { Fault, manualClock, silentLog, systemClock } from '@detour/core';
import { freePort, type NatsServer, startNats, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AlarmBook, type AlarmEvent } from './alarms.js';
import { type Bus, connectBus } from './connection.js';
import { registerInstance, watchInstances } from './instances.js';
import { openIntentStore } from './intent-store.js';
import type { StateBatch } from './mirror.js';
import { openState } from './state.js';

let life = new AbortController();
let nats: NatsServer;
const open: Bus[] = [];
const bus = (url = nats.url) => {
  const made = connectBus({ servers: [url], name: 'test', signal: life.signal, log: silentLog });
  open.push(made);
  return made;
};
const codeOf = async (work: Promise<unknown>) =>
  work.then(
    () => 'no fault',
    (error: unknown) => (error instanceof Fault ? error.code : error),
  );

beforeEach(async () => {
  life = new AbortController();
  nats = await startNats();
});
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
  life.abort();
  await nats[Symbol.asyncDispose]();
});

describe('connectBus', () => {
  it('starts before NATS is there', async () => {
    const port = await freePort();
    const early = bus(`nats://127.0.0.1:${port}`);
    const state = openState(early);
    expect(await codeOf(state.put('score.a', 1))).toBe('unavailable');
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
    const waiting = bus(`nats://127.0.0.1:${await freePort()}`).whenConnected();
    life.abort(new Fault('unavailable', 'stopping'));
    expect(await codeOf(waiting)).toBe('unavailable');
  });

  it('says that JetStream is missing', async () => {
    await using plain = await startNats({ jetstream: false });
    const state = openState(bus(plain.url));
    await state.bus.whenConnected();
    await expect(state.put('score.a', 1)).rejects.toThrow(/JetStream/i);
  });
});

describe('openState', () => {
  it('compares and sets by revision', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    const first = await state.cas('intent.head', { revision: 1 }, 0n);
    expect(await codeOf(state.cas('intent.head', { revision: 2 }, 0n))).toBe('conflict');
    const second = await state.cas('intent.head', { revision: 2 }, first);
    expect(await codeOf(state.cas('intent.head', { revision: 3 }, first))).toBe('conflict');
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
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    nats.pause();
    const since = performance.now();
    expect(['timeout', 'unavailable']).toContain(await codeOf(state.put('score.a', 2)));
    expect(performance.now() - since).toBeLessThan(4_000);
    nats.resume();
    await until(async () => (await codeOf(state.put('score.a', 3))) === 'no fault');
  });
});

describe('StateMirror', () => {
  it('holds the snapshot, follows updates and deletions, and orders versions', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    await state.put('score.b', 2);
    await state.delete('score.b');
    await state.put('drain.a', { draining: true });
    const mirror = state.watch();
    await mirror.caughtUp;
    expect(mirror.keys()).toEqual(['drain.a', 'score.a']);
    expect(mirror.sequence).toBe(4n);
    expect(mirror.version(['score.'])).toBe(3n); // the deletion counts
    const batches: StateBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await state.put('score.a', 9);
    await state.delete('drain.a');
    await until(() => batches.at(-1)?.sequence === 6n);
    expect(
      batches.flatMap((batch) => batch.changes).map((c) => [c.key, c.before?.value, c.after?.value]),
    ).toEqual([
      ['score.a', 1, 9],
      ['drain.a', { draining: true }, undefined],
    ]);
    const other = openState(bus()).watch();
    await other.caughtUp;
    expect([other.epoch, other.sequence, other.version(['score.'])]).toEqual([
      mirror.epoch,
      mirror.sequence,
      mirror.version(['score.']),
    ]);
  });

  it('re-syncs after NATS was away, with the deletions that it missed', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    await state.put('score.b', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    await nats.stop();
    await until(() => !mirror.live);
    expect(mirror.get('score.a')?.value).toBe(1);
    expect(await codeOf(state.put('score.a', 2))).toBe('unavailable');
    const batches: StateBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await nats.start();
    const other = openState(bus());
    await other.bus.whenConnected();
    await other.delete('score.b');
    await other.put('score.c', 3);
    await until(() => mirror.live && mirror.get('score.c'), { timeoutMs: 15_000 });
    expect(mirror.keys()).toEqual(['score.a', 'score.c']);
    expect(mirror.epoch).toBe(epoch);
    expect(batches.some((batch) => batch.resynced)).toBe(true);
    expect(batches.some((batch) => batch.epochChanged)).toBe(false);
    await state.put('score.d', 4);
    await until(() => mirror.get('score.d'));
  });

  it('notices a bucket made anew as a new epoch', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    const batches: StateBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await nats.restart('empty');
    await until(() => mirror.epoch !== epoch, { timeoutMs: 15_000 });
    expect(mirror.keys()).toEqual([]);
    expect(batches).toMatchObject([
      { epochChanged: true, resynced: true, sequence: 0n, changes: [{ key: 'score.a', after: null }] },
    ]);
    expect(await state.put('score.a', 2)).toBe(1n);
    await until(() => mirror.get('score.a')?.value === 2);
  });

  it('notices a bucket that is deleted under a living connection', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    const { jsm, stream } = await state.session();
    await jsm.streams.delete(stream);
    await until(() => mirror.epoch !== epoch && mirror.live, { timeoutMs: 20_000 });
    expect(mirror.keys()).toEqual([]);
    await until(async () => (await codeOf(state.put('score.a', 2))) === 'no fault');
    await until(() => mirror.get('score.a')?.value === 2);
  });
});

describe('instances', () => {
  const spec = (state: ReturnType<typeof openState>, id: string) => ({
    ...{
      state,
      service: 'classifier' as const,
      id,
      address: `127.0.0.1:70${id}`,
      metrics: 'm:1',
      gateway: '',
    },
    ...{ clock: systemClock(), log: silentLog },
  });

  it('lists who beats, drops who leaves at once, and who falls silent by its own clock', async () => {
    const state = openState(bus());
    const mirror = state.watch();
    await mirror.caughtUp;
    const clock = manualClock();
    using watch = watchInstances({ mirror, service: 'classifier', clock });
    const one = registerInstance(spec(state, '01'));
    await using two = registerInstance(spec(state, '02'));
    await one.registered;
    await two.registered;
    await until(() => watch.addresses().length === 2);
    expect(watch.list()[0]).toMatchObject({ id: '01', address: '127.0.0.1:7001', gateway: '' });
    await one[Symbol.asyncDispose]();
    await until(() => watch.addresses().length === 1);
    clock.advance(INSTANCE_EXPIRY_MS - HEARTBEAT_MS);
    const beat = mirror.get(stateKey.instance('classifier', '02'))?.revision ?? 0n;
    await until(() => (mirror.get(stateKey.instance('classifier', '02'))?.revision ?? 0n) > beat);
    clock.advance(INSTANCE_EXPIRY_MS - HEARTBEAT_MS);
    expect(watch.addresses()).toEqual(['127.0.0.1:7002']); // its beat was seen in between
    clock.advance(INSTANCE_EXPIRY_MS + HEARTBEAT_MS);
    expect(watch.addresses()).toEqual([]);
    await until(() => watch.addresses().length === 1); // it beats again
  });

  it('keeps the last known instances while NATS is away, and through an emptied store', async () => {
    const state = openState(bus());
    const mirror = state.watch();
    await mirror.caughtUp;
    const clock = manualClock();
    using watch = watchInstances({ mirror, service: 'classifier', clock });
    await using one = registerInstance(spec(state, '01'));
    await one.registered;
    await until(() => watch.addresses().length === 1);
    let changes = 0;
    watch.onChange(() => {
      changes += 1;
    });
    await nats.stop();
    await until(() => !mirror.live);
    clock.advance(10 * INSTANCE_EXPIRY_MS);
    expect(watch.addresses()).toHaveLength(1);
    await nats.restart('empty');
    await until(() => mirror.live && mirror.keys('instance.').length === 1, { timeoutMs: 15_000 });
    expect(watch.addresses()).toHaveLength(1);
    expect(changes).toBe(0);
  });

  it('ignores values that are no instance', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    await state.put(stateKey.instance('classifier', 'x'), { address: 5 });
    const mirror = state.watch();
    await mirror.caughtUp;
    using watch = watchInstances({ mirror, service: 'classifier', clock: manualClock() });
    expect(watch.list()).toEqual([]);
  });
});

describe('openIntentStore', () => {
  it('stores by digest, reads back verified, and says what is missing', async () => {
    const store = openIntentStore(bus());
    expect(await codeOf(store.put(new Uint8Array(1)))).toBe('unavailable');
    await open[0]?.whenConnected();
    const bytes = new Uint8Array(300_000).map((_, i) => i % 251);
    const sha256 = await store.put(bytes);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(await store.put(bytes)).toBe(sha256);
    expect(Buffer.compare(await store.get(sha256), bytes)).toBe(0);
    expect(await codeOf(store.get('0'.repeat(64)))).toBe('not_found');
    expect(await codeOf(store.put(new Uint8Array(9_000_000)))).toBe('invalid');
  });
});

describe('AlarmBook', () => {
  const book = (state: ReturnType<typeof openState>) =>
    new AlarmBook({ bus: state.bus, state, source: 'edge1-bfd', clock: systemClock(), log: silentLog });

  it('writes a row and publishes rise and fall', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    const events: AlarmEvent[] = [];
    state.bus.connection().subscribe(alarmSubject('peer_gone'), {
      callback: (_error, message) => {
        events.push(message.json<AlarmEvent>());
      },
    });
    await state.bus.connection().flush();
    await using alarms = book(state);
    alarms.raise('peer_gone', 'fw1/red', 'no answer');
    alarms.raise('peer_gone', 'fw1/red', 'no answer');
    const key = stateKey.alarm('edge1-bfd', 'peer_gone', 'fw1/red');
    const row = await until(() => state.get(key));
    expect(row.value).toMatchObject({ text: 'no answer', active: true });
    alarms.clear('peer_gone', 'fw1/red');
    await until(async () => (await state.get(key)) === null);
    await until(() => events.length === 2);
    expect(events.map((event) => [event.subject, event.active])).toEqual([
      ['fw1/red', true],
      ['fw1/red', false],
    ]);
  });

  it('remembers while NATS is away, and removes what a former life left', async () => {
    const state = openState(bus());
    await state.bus.whenConnected();
    const left = stateKey.alarm('edge1-bfd', 'old', '');
    await state.put(left, { text: 'x', sinceMs: 1, active: true });
    await nats.stop();
    await until(() => !state.bus.connected);
    await using alarms = book(state);
    alarms.raise('peer_gone', '', 'no answer');
    expect(alarms.active()).toHaveLength(1);
    await nats.start();
    await until(() => state.get(stateKey.alarm('edge1-bfd', 'peer_gone', '')), { timeoutMs: 15_000 });
    await until(async () => (await state.get(left)) === null);
    await nats.restart('empty');
    await until(() => state.get(stateKey.alarm('edge1-bfd', 'peer_gone', '')), { timeoutMs: 15_000 });
  });
});
