// SPDX-License-Identifier: Apache-2.0

import { openFirewall } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, healthOf, lostPackets, nodeOf, type Rig, raiseRig } from './rig.js';

const controllers = ['classifier', 'path-selector', 'stats-collector'] as const;

describe('NATS and all controllers are killed', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-control');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  it('established flows lose no packet, new ones are decided from the last tables', async () => {
    const before = await rig.status();
    const stream = await rig.stream();
    for (const id of ['nats', ...controllers]) await rig.stack.kill(id);
    for (let i = 0; i < 10; i += 1) expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    const after = await rig.status();
    expect(after.connected).toMatchObject({
      nats: false,
      classifier: false,
      'path-selector': false,
      bfd: true,
    });
    const decided = (name: string) => Number(after.decided[name] ?? 0n) - Number(before.decided[name] ?? 0n);
    expect(decided('last-tables')).toBeGreaterThanOrEqual(10);
    expect(lostPackets(await stream.stop())).toBe(0);
    expect(await rig.stack.metrics('tunnel-gw')).toMatch(
      /detour_decisions_total\{[^}]*by="last-tables"[^}]*\} [1-9]/,
    );
  });

  it('a node that dies now is still left', async () => {
    const stream = await rig.stream();
    const fw1 = openFirewall(rig.lab, 'fw1');
    await fw1.silence();
    await rig.until('fw1 down', (status) => healthOf(status).fw1 === 'down');
    for (let i = 0; i < 8; i += 1) {
      const answer = await rig.get();
      expect(answer).toMatchObject({ ok: true, status: 200 });
      if (answer.ok) expect(nodeOf(await rig.flows(), answer.localPort)).toBe('fw2');
    }
    const moved = await rig.flows();
    const report = await stream.stop();
    for (const { port } of stream.localPorts) expect(nodeOf(moved, port)).toBe('fw2');
    // Service came back: every outage of it ended before the stream did.
    expect(report.received).toBeGreaterThan(0);
    expect(report.outages.every(({ lenMs }) => lenMs < 5_000)).toBe(true);
    await fw1.restore();
    await rig.until('both firewalls up', bothUp);
  });

  it('tunnel-gw, started anew while all of them are away, decides from the tables that it kept', async () => {
    const stream = await rig.stream();
    await rig.stack.kill('tunnel-gw');
    await rig.stack.start('tunnel-gw');
    const status = await rig.until(
      'the kept tables in force',
      (now) => now.runningRevision === 1 && bothUp(now),
    );
    expect(status.connected).toMatchObject({ nats: false, classifier: false, 'path-selector': false });
    for (let i = 0; i < 10; i += 1) expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    const nodes = new Set((await rig.flows()).map(({ nodes }) => nodes.join()));
    expect(nodes).toEqual(new Set(['fw1', 'fw2']));
    expect(Number((await rig.status()).decided['last-tables'] ?? 0n)).toBeGreaterThanOrEqual(10);
    expect((await rig.status()).alarms.some(({ code }) => code === 'tables_kept')).toBe(true);
    expect(lostPackets(await stream.stop())).toBe(0);
  });

  it('all heals without a restart of anything else', async () => {
    const pids = ['tunnel-gw', 'bfd', 'redis'].map((id) => rig.stack.process(id).pid);
    const stream = await rig.stream();
    for (const id of ['nats', ...controllers]) await rig.stack.start(id);
    const healed = await rig.until('all connections back', ({ connected }) =>
      Object.values(connected).every(Boolean),
    );
    expect(healed.runningRevision).toBe(1);
    await rig.until(
      'no alarm of kept tables',
      ({ alarms }) => !alarms.some(({ code }) => code === 'tables_kept'),
    );
    await decidedByController(rig);
    expect(lostPackets(await stream.stop())).toBe(0);
    expect(['tunnel-gw', 'bfd', 'redis'].map((id) => rig.stack.process(id).pid)).toEqual(pids);
    const nodes = await rig.stack.cliJson<{ name: string }[]>(['get', 'nodes']);
    expect(nodes.map(({ name }) => name)).toEqual(['fw1', 'fw2']);
  });

  it('NATS comes back empty: traffic goes on with the last tables, and the next apply is taken', async () => {
    const stream = await rig.stream();
    await rig.stack.kill('nats');
    await rig.lab.exec('mgmt', ['rm', '-rf', `${rig.lab.dir}/nats/jetstream`]);
    await rig.stack.start('nats');
    await rig.until('NATS back', ({ connected }) => connected.nats === true);
    expect((await rig.status()).runningRevision).toBe(1);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    const applied = await rig.apply(rig.intent, '--wait', '--timeout', '60s');
    expect(applied).toMatchObject({ code: 0 });
    await rig.until('both firewalls up', bothUp);
    await decidedByController(rig);
    expect(lostPackets(await stream.stop())).toBe(0);
  });
});

/** New flows are decided by the controllers again. */
async function decidedByController(rig: Rig): Promise<void> {
  const { decided } = await rig.status();
  await rig.until('a decision of the controllers', (now) => {
    void rig.get();
    return Number(now.decided.controller ?? 0n) > Number(decided.controller ?? 0n);
  });
}
