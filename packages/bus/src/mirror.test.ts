// SPDX-License-Identifier: Apache-2.0
// On a real nats-server that is stopped, emptied and frozen.
import { faultCodeOf, startTestBus, type TestBus, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StateBatch } from './mirror.js';
import { openState } from './state.js';

let test: TestBus;
beforeEach(async () => {
  test = await startTestBus();
});
afterEach(() => test[Symbol.asyncDispose]());

describe('StateMirror', () => {
  it('holds the snapshot, follows updates and deletions, and orders versions', async () => {
    const state = openState(test.connect());
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
    const other = openState(test.connect()).watch();
    await other.caughtUp;
    expect([other.epoch, other.sequence, other.version(['score.'])]).toEqual([
      mirror.epoch,
      mirror.sequence,
      mirror.version(['score.']),
    ]);
  });

  it('re-syncs after NATS was away, with the deletions that it missed', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    await state.put('score.b', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    await test.nats.stop();
    await until(() => !mirror.live);
    expect(mirror.get('score.a')?.value).toBe(1);
    expect(await faultCodeOf(state.put('score.a', 2))).toBe('unavailable');
    const batches: StateBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await test.nats.start();
    const other = openState(test.connect());
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
    const state = openState(test.connect());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    const batches: StateBatch[] = [];
    mirror.onChange((batch) => batches.push(batch));
    await test.nats.restart('empty');
    await until(() => mirror.epoch !== epoch, { timeoutMs: 15_000 });
    expect(mirror.keys()).toEqual([]);
    expect(batches).toMatchObject([
      { epochChanged: true, resynced: true, sequence: 0n, changes: [{ key: 'score.a', after: null }] },
    ]);
    expect(await state.put('score.a', 2)).toBe(1n);
    await until(() => mirror.get('score.a')?.value === 2);
  });

  it('notices a bucket that is deleted under a living connection', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    await state.put('score.a', 1);
    const mirror = state.watch();
    await mirror.caughtUp;
    const epoch = mirror.epoch;
    const { jsm, stream } = await state.session();
    await jsm.streams.delete(stream);
    await until(() => mirror.epoch !== epoch && mirror.live, { timeoutMs: 20_000 });
    expect(mirror.keys()).toEqual([]);
    await until(async () => (await faultCodeOf(state.put('score.a', 2))) === null);
    await until(() => mirror.get('score.a')?.value === 2);
  });

  it('can be closed while NATS is away', async () => {
    const state = openState(test.connect());
    const mirror = state.watch();
    await mirror.caughtUp;
    await test.nats.stop();
    await until(() => !mirror.live);
    await mirror[Symbol.asyncDispose]();
    const never = state.watch();
    const caughtUp = never.caughtUp.catch(() => 'closed');
    await never[Symbol.asyncDispose]();
    expect(await caughtUp).toBe('closed');
  });
});
