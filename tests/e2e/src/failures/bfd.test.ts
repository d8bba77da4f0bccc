// SPDX-License-Identifier: Apache-2.0
import { openFirewall } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, healthOf, lostPackets, nodeOf, type Rig, raiseRig } from './rig.js';

describe('bfd is killed', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-bfd');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  it('health is stale, the last state stays in force, with an alarm; nothing fails over, also when it comes back', async () => {
    const stream = await rig.stream();
    const before = await rig.flows();
    const generations = await rig.generations();

    await rig.stack.kill('bfd');
    const gone = await rig.until('the loss of bfd', ({ connected }) => connected.bfd === false);
    expect(await rig.health()).toEqual({ fw1: 'stale', fw2: 'stale' });
    expect(gone.alarms.map(({ code }) => code)).toContain('bfd_gone');
    const alarms = await rig.stack.cliJson<{ code: string }[]>(['get', 'alarms']);
    expect(alarms.map(({ code }) => code)).toContain('bfd_gone');
    for (let i = 0; i < 5; i += 1) expect(await rig.get()).toMatchObject({ ok: true, status: 200 });

    await rig.stack.start('bfd');
    const seen = new Set<string>();
    await rig.until('both firewalls up', (status) => {
      for (const state of Object.values(healthOf(status))) seen.add(state);
      return bothUp(status);
    });
    expect([...seen].filter((state) => state !== 'up' && state !== 'stale')).toEqual([]);
    const sessions = await rig.bfdSessions();
    expect(sessions).toMatchObject([
      { state: 'Up', health: 'up' },
      { state: 'Up', health: 'up' },
    ]);
    await rig.until('no alarm', ({ alarms: raised }) => raised.length === 0);

    // A node that flaps down and up moves the generation of every chain through it twice.
    expect(await rig.generations()).toEqual(generations);
    const after = await rig.flows();
    for (const { port } of stream.localPorts) expect(nodeOf(after, port)).toBe(nodeOf(before, port));
    expect(lostPackets(await stream.stop())).toBe(0);
  });

  it('a node that died meanwhile is left as soon as bfd is back', async () => {
    const stream = await rig.stream();
    const fw2 = openFirewall(rig.lab, 'fw2');
    await rig.stack.kill('bfd');
    await rig.until('the loss of bfd', ({ connected }) => connected.bfd === false);
    await fw2.silence();
    await rig.stack.start('bfd');
    await rig.until('fw2 down', (status) => healthOf(status).fw2 === 'down');
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    await rig.untilFlows('all flows on fw1', (rows) =>
      stream.localPorts.every(({ port }) => nodeOf(rows, port) === 'fw1'),
    );
    await stream.stop();
    await fw2.restore();
    await rig.until('both firewalls up', bothUp);
  });
});
