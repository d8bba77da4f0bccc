// SPDX-License-Identifier: Apache-2.0
// Connections that begin are decided in the kernel: what must be there for it, and what is missed while others are away.
import { decodeFlowRecord, type FlowRow, flowRecordKey } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import { clientAddresses, openFirewall, standardAddresses, standardPorts, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, healthOf, lostPackets, nodeOf, type Rig, raiseRig } from './rig.js';

const CONNECTIONS = 40;

describe('the datapath decides connections that begin', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-decides', { datapathDecides: true });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  const openConnections = () =>
    rig.client.openTcp({
      count: CONNECTIONS,
      localAddresses: clientAddresses(5),
      remote: { address: standardAddresses.server, port: standardPorts.echo },
      intervalMs: 100,
    });
  const pinOf = async ({ tuple }: FlowRow) => {
    if (tuple === undefined) return undefined;
    const socket = rig.stack.redisUrl.slice('unix:'.length);
    const key = flowRecordKey(normaliseTuple(tuple).key);
    const { stdout } = await rig.lab.exec('mgmt', ['redis-cli', '-s', socket, 'get', key]);
    return decodeFlowRecord(stdout.trim()) ?? undefined;
  };
  const decided = async (by: string) => Number((await rig.status()).decided[by] ?? 0n);

  it('with nobody asked, and Redis knows every one of them as the datapath has it', async () => {
    const [kernel, controller] = [await decided('kernel'), await decided('controller')];
    const connections = await openConnections();
    expect(connections).toMatchObject({ opened: CONNECTIONS, failed: {} });
    expect((await decided('kernel')) - kernel).toBe(CONNECTIONS);
    expect((await decided('controller')) - controller).toBe(0);
    const { connections: reports } = await connections.report();
    const ports = new Set(reports.map(({ localPort }) => localPort));
    await waitFor(
      async () => {
        const rows = (await rig.flows()).filter(({ tuple }) => ports.has(tuple?.sport ?? 0));
        const pins = await Promise.all(rows.map(pinOf));
        return (
          rows.length === CONNECTIONS && rows.every((row, i) => pins[i]?.path === row.path && row.established)
        );
      },
      { what: 'pins of all connections in Redis', timeoutMs: 20_000, everyMs: 100 },
    );
    const rows = (await rig.flows()).filter(({ tuple }) => ports.has(tuple?.sport ?? 0));
    expect(new Set(rows.map(({ decidedBy }) => decidedBy))).toEqual(new Set(['kernel']));
    expect(new Set(rows.map(({ nodes }) => nodes.join()))).toEqual(new Set(['fw1', 'fw2']));
    for (const { packetsForward, packetsReverse } of rows)
      expect([packetsForward >= 2n, packetsReverse >= 1n]).toEqual([true, true]);
    await connections.close();
  });

  it('also while NATS, Redis and all controllers are dead; a node that dies then is left', async () => {
    const stream = await rig.stream();
    for (const id of ['nats', 'redis', 'classifier', 'path-selector', 'stats-collector'])
      await rig.stack.kill(id);
    await rig.until('Redis missed', ({ connected }) => connected.redis === false);
    const connections = await openConnections();
    expect(connections).toMatchObject({ opened: CONNECTIONS, failed: {} });
    expect(lostPackets(await stream.stop())).toBe(0);
    const fw1 = openFirewall(rig.lab, 'fw1');
    await fw1.silence();
    await rig.until('fw1 down', (status) => healthOf(status).fw1 === 'down');
    for (let i = 0; i < 8; i += 1) {
      const answer = await rig.get();
      expect(answer).toMatchObject({ ok: true, status: 200 });
      if (answer.ok) expect(nodeOf(await rig.flows(), answer.localPort)).toBe('fw2');
    }
    await fw1.restore();
    for (const id of ['nats', 'redis', 'classifier', 'path-selector', 'stats-collector'])
      await rig.stack.start(id);
    await rig.until('everything recorded', (status) => {
      const { connected, figures } = status;
      return Object.values(connected).every(Boolean) && figures.unrecorded === 0n && bothUp(status);
    });
    await connections.close();
  });

  it('also while tunnel-gw is dead; its successor knows their counter rows and records them', async () => {
    await rig.stack.kill('tunnel-gw');
    const connections = await openConnections();
    expect(connections).toMatchObject({ opened: CONNECTIONS, failed: {} });
    await rig.stack.start('tunnel-gw');
    await rig.until(
      'everything as before',
      (status) => Object.values(status.connected).every(Boolean) && bothUp(status),
    );
    const more = await openConnections();
    expect(more).toMatchObject({ opened: CONNECTIONS, failed: {} });
    const { connections: reports } = await connections.report();
    expect(reports.every(({ isOpen }) => isOpen)).toBe(true);
    const ports = new Set(reports.map(({ localPort }) => localPort));
    const rows = (await rig.flows()).filter(({ tuple }) => ports.has(tuple?.sport ?? 0));
    expect(rows).toHaveLength(CONNECTIONS);
    for (const row of rows) expect(row.packetsForward + row.packetsReverse).toBeGreaterThan(2n);
    await connections.close();
    await more.close();
  });
});
