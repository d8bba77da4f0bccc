// SPDX-License-Identifier: Apache-2.0
// State and mirror while NATS is stopped, frozen, emptied and cut off: in a container where there is Docker, on a local process otherwise.
import { silentLog } from '@detour/core';
import { type BreakableServer, faultCodeOf, startBreakableNats, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectBus } from './connection.js';
import type { StateMirror } from './mirror.js';
import { openState, type State } from './state.js';

let server: BreakableServer;
let state: State;
let mirror: StateMirror;
const life = { abort: new AbortController() };
const LONG = { timeoutMs: 25_000 };

beforeEach(async () => {
  server = await startBreakableNats();
  life.abort = new AbortController();
  const bus = connectBus({ servers: [server.url], name: 'test', signal: life.abort.signal, log: silentLog });
  state = openState(bus);
  mirror = state.watch();
  await bus.whenConnected();
  await state.put('score.a', 1);
  await until(() => mirror.get('score.a')?.value === 1, LONG);
});
afterEach(async () => {
  await mirror[Symbol.asyncDispose]();
  await state.bus[Symbol.asyncDispose]();
  life.abort.abort();
  await server[Symbol.asyncDispose]();
});

const isWritable = (value: number) => async () => (await faultCodeOf(state.put('score.a', value))) === null;
const isFault = async () => (await faultCodeOf(state.put('score.a', 9))) !== null;

describe('while NATS is broken', () => {
  it('stopped: what was known stays, writing is a Fault; started again with its data, everything goes on', async () => {
    const { epoch } = mirror;
    await server.stop();
    await until(() => !state.bus.connected, LONG);
    expect(await faultCodeOf(state.put('score.a', 2))).toBe('unavailable');
    expect(mirror.get('score.a')?.value).toBe(1);
    await server.start();
    await until(isWritable(3), LONG);
    await until(() => mirror.get('score.a')?.value === 3, LONG);
    expect(mirror.epoch).toBe(epoch);
  });

  it('frozen: writing is a Fault soon; thawed, everything goes on', async () => {
    await server.pause();
    const sinceMs = performance.now();
    expect(await isFault()).toBe(true);
    expect(performance.now() - sinceMs).toBeLessThan(6_000);
    expect(mirror.get('score.a')?.value).toBe(1);
    await server.resume();
    await until(isWritable(4), LONG);
    await until(() => mirror.get('score.a')?.value === 4, LONG);
  });

  it('restarted empty: a new epoch, without what was there', async () => {
    const { epoch } = mirror;
    await server.restart('empty');
    await until(() => mirror.epoch !== epoch && mirror.live, LONG);
    expect(mirror.keys()).toEqual([]);
    await until(isWritable(5), LONG);
    await until(() => mirror.get('score.a')?.value === 5, LONG);
  });

  it('cut off without a word: the loss is noticed by silence; mended, everything goes on with the same data', async () => {
    const { epoch } = mirror;
    await server.cut();
    expect(await isFault()).toBe(true);
    await until(() => !state.bus.connected, LONG);
    expect(mirror.get('score.a')?.value).toBe(1);
    await server.mend();
    await until(isWritable(6), LONG);
    await until(() => mirror.get('score.a')?.value === 6, LONG);
    expect(mirror.epoch).toBe(epoch);
  });
});
