// SPDX-License-Identifier: Apache-2.0
// On a real nats-server that is stopped, emptied and frozen.
import { HEARTBEAT_MS, INSTANCE_EXPIRY_MS, stateKey } from '@detour/contracts';
import { manualClock, silentLog, systemClock } from '@detour/core';
import { startTestBus, type TestBus, until } from '@detour/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { registerInstance, watchInstances } from './instances.js';
import { openState } from './state.js';

let test: TestBus;
beforeEach(async () => {
  test = await startTestBus();
});
afterEach(() => test[Symbol.asyncDispose]());

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
    const state = openState(test.connect());
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
    const state = openState(test.connect());
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
    await test.nats.stop();
    await until(() => !mirror.live);
    clock.advance(10 * INSTANCE_EXPIRY_MS);
    expect(watch.addresses()).toHaveLength(1);
    await test.nats.restart('empty');
    await until(() => mirror.live && mirror.keys('instance.').length === 1, { timeoutMs: 15_000 });
    expect(watch.addresses()).toHaveLength(1);
    expect(changes).toBe(0);
  });

  it('ignores values that are no instance', async () => {
    const state = openState(test.connect());
    await state.bus.whenConnected();
    await state.put(stateKey.instance('classifier', 'x'), { address: 5 });
    const mirror = state.watch();
    await mirror.caughtUp;
    using watch = watchInstances({ mirror, service: 'classifier', clock: manualClock() });
    expect(watch.list()).toEqual([]);
  });
});
