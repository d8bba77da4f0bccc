// SPDX-License-Identifier: Apache-2.0
// The path-selector while Redis or NATS is stopped, frozen or emptied, and afterwards.
import { PathSource, stateKey } from '@detour/contracts';
import { askRedis, startRedisCluster, startRedisSentinel, until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, startRig, weights } from './testing/rig.js';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('path-selector, when things go wrong', () => {
  it('answers unrecorded while Redis is stopped or silent, with an alarm, and records again once it is back', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p11');
    await one.live(made.revision);
    const flow = rig.newFlow();
    await rig.on.redis.stop();
    const alarm = stateKey.alarm('path-selector-p11', 'redis_unreachable', '');
    await until(() => rig.on.state.get(alarm));
    const chosen = await one.ask(flow);
    expect(chosen).toMatchObject({ source: PathSource.UNRECORDED, pinGen: 0, error: '' });
    expect(chosen.path).toBeGreaterThan(0);
    expect(chosen.why).toContain('not recorded: Redis at');
    await rig.on.redis.start();
    const recorded = await until(async () => {
      const answer = await one.ask(flow);
      return answer.source === PathSource.UNRECORDED ? null : answer;
    });
    expect(recorded).toMatchObject({ path: chosen.path, source: PathSource.SELECTED, pinGen: 1 });
    await until(async () => (await rig.on.state.get(alarm)) === null);
    rig.on.redis.pause();
    expect(await one.ask(rig.newFlow())).toMatchObject({ source: PathSource.UNRECORDED, error: '' });
    rig.on.redis.resume();
    await until(async () => (await one.ask(flow)).source === PathSource.PINNED);
  });

  it.each([
    ['a master that sentinels name', startRedisSentinel],
    ['a cluster of six', startRedisCluster],
  ])(
    'keeps pins in %s, by its settings',
    async (_, startServers) => {
      await using servers = await startServers();
      const made = await rig.apply(['', '']);
      await using one = await rig.startSelector('p16', 'edge1', servers.url);
      await using two = await rig.startSelector('p17', 'edge2', servers.url);
      await Promise.all([one.live(made.revision), two.live(made.revision)]);
      await until(async () => (await one.ask(rig.newFlow())).source === PathSource.SELECTED);
      await until(async () => (await two.ask(rig.newFlow())).source === PathSource.SELECTED);
      const flows = Array.from({ length: 50 }, rig.newFlow);
      const chosen = await Promise.all(flows.map((flow) => one.ask(flow)));
      expect(chosen.every(({ source }) => source === PathSource.SELECTED)).toBe(true);
      const found = await Promise.all(flows.map((flow) => two.ask(flow, { midflow: true })));
      expect(found.map(({ path, source }) => [path, source])).toEqual(
        chosen.map(({ path }) => [path, PathSource.PINNED]),
      );
    },
    60_000,
  );

  it('still finds pins in a Redis that is full, and says that it records none', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p13');
    await one.live(made.revision);
    const [before, after] = [rig.newFlow(), rig.newFlow()];
    const { path } = await one.ask(before);
    const alarm = stateKey.alarm('path-selector-p13', 'redis_refuses', '');
    await askRedis(rig.on.redis.url, 'CONFIG', 'SET', 'maxmemory', '1');
    expect(await one.ask(before, { midflow: true })).toMatchObject({ path, source: PathSource.PINNED });
    expect(await one.ask(after)).toMatchObject({ source: PathSource.UNRECORDED, error: '' });
    await until(() => rig.on.state.get(alarm));
    await askRedis(rig.on.redis.url, 'CONFIG', 'SET', 'maxmemory', '0');
    await until(async () => (await rig.on.state.get(alarm)) === null);
    expect(await one.ask(after)).toMatchObject({ source: PathSource.SELECTED });
  });

  it('answers from its last table while NATS is away, and heals when it is back, also without its store', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p12');
    await one.live(made.revision);
    await rig.on.nats.stop();
    expect(await one.ask(rig.newFlow())).toMatchObject({ source: PathSource.SELECTED, error: '' });
    await rig.on.nats.start();
    await rig.on.bus.whenConnected();
    await rig.score('fw1', 10);
    await until(() => weights(one.table.rows)?.[0] === 100, { timeoutMs: 10_000 });
    const epoch = one.table.version?.epoch;
    await rig.on.nats.restart('empty');
    await rig.on.bus.whenConnected();
    expect(await one.ask(rig.newFlow())).toMatchObject({ source: PathSource.SELECTED, error: '' });
    const anew = await rig.apply(['', '', '']);
    await until(() => one.table.version?.revision === anew.revision && one.table.version.epoch !== epoch, {
      timeoutMs: 10_000,
    });
    expect(weights(one.table.rows)).toEqual([1000, 1000, 1000]);
  });
});
