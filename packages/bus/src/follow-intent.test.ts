// SPDX-License-Identifier: Apache-2.0
// Following the intent's head, on a real nats-server.
import { type IntentHead, stateKey } from '@detour/contracts';
import { silentLog, systemClock } from '@detour/core';
import { type NatsServer, startNats, until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bus, connectBus } from './connection.js';
import { type FollowedIntent, followIntent } from './follow-intent.js';
import { openIntentStore } from './intent-store.js';
import { openState, type State } from './state.js';

let nats: NatsServer;
let bus: Bus;
let state: State;
beforeAll(async () => {
  nats = await startNats();
  bus = connectBus({
    servers: [nats.url],
    name: 'test',
    signal: new AbortController().signal,
    log: silentLog,
  });
  state = openState(bus);
  await bus.whenConnected();
});
afterAll(async () => {
  await bus[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

const headOf = (revision: number, sha256: string): IntentHead => ({
  revision,
  sha256,
  atMs: 1,
  author: 'test',
});

describe('followIntent', () => {
  it('tells each revision once it can be read, keeps the old one when it cannot, and heals when NATS loses its store', async () => {
    const store = openIntentStore(bus);
    const mirror = state.watch();
    const found: FollowedIntent<string>[] = [];
    const refused: string[] = [];
    const following = followIntent<string>({
      mirror,
      store,
      clock: systemClock(),
      log: silentLog,
      decode: (text) =>
        text.startsWith('bad') ? { ok: false, why: 'it is bad' } : { ok: true, revision: text },
      onRevision: (one) => found.push(one),
      onRefused: (head, why) => refused.push(`${head.revision}: ${why}`),
    });
    const apply = async (revision: number, text: string) => {
      const sha256 = await store.put(Buffer.from(text));
      await state.put(stateKey.intentHead(), headOf(revision, sha256));
    };
    await apply(1, 'one');
    await until(() => found.length === 1);
    expect(found[0]).toMatchObject({ revision: 'one', head: { revision: 1 }, epoch: mirror.epoch });
    expect(found[0]?.sequence).toBe(mirror.get(stateKey.intentHead())?.revision);

    await apply(2, 'bad');
    await until(() => refused.length === 1);
    await state.put(stateKey.intentHead(), headOf(3, 'f'.repeat(64)));
    await until(() => refused.length === 2);
    expect(refused[0]).toBe('2: it is bad');
    expect(refused[1]).toContain(`3: not_found: no intent with SHA-256 ${'f'.repeat(64)}`);
    await apply(4, 'four');
    await until(() => found.length === 2);
    expect(found[1]?.head.revision).toBe(4);

    await nats.restart('empty');
    await until(() => mirror.live && mirror.epoch !== found[1]?.epoch, { timeoutMs: 15_000 });
    expect(found).toHaveLength(2);
    await apply(4, 'four');
    await until(() => found.length === 3, { timeoutMs: 10_000 });
    expect(found[2]).toMatchObject({ revision: 'four', epoch: mirror.epoch });
    expect(refused).toHaveLength(2);
    following[Symbol.dispose]();
    await mirror[Symbol.asyncDispose]();
  });
});
