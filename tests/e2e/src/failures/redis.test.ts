// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { decodeFlowRecord, type FlowRow, flowRecordKey } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import { clientAddresses, redisSocket, standardAddresses, standardPorts, waitFor } from '@detour/lab';
import { type Relay, startRelay } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, nodeOf, type Rig, raiseRig } from './rig.js';

const newFlows = 10;

describe('Redis is stopped, silent or late', () => {
  let rig: Rig;
  /** On the way of all who use Redis. */
  let relay: Relay;
  const dir = mkdtempSync('/tmp/detour-relay-');
  const at = join(dir, 'redis.sock');
  beforeAll(async () => {
    rig = await raiseRig('fail-redis', {
      env: (service) =>
        service === 'tunnel-gw' || service === 'path-selector' ? { DETOUR_REDIS: `unix:${at}` } : {},
      beforeStack: async (lab) => {
        relay = await startRelay(redisSocket(lab), at);
      },
    });
  });
  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
    await relay?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  const openConnections = () =>
    rig.client.openTcp({
      count: newFlows,
      localAddresses: clientAddresses(5),
      remote: { address: standardAddresses.server, port: standardPorts.echo },
      intervalMs: 100,
    });
  const unrecordedAnswers = async (): Promise<number> => {
    const line = /detour_paths_questions_total\{outcome="unrecorded"[^}]*\} (\d+)/;
    return Number(line.exec(await rig.stack.metrics('path-selector'))?.[1] ?? 0);
  };
  /** The pin that Redis holds of a flow; undefined when it holds none. */
  const pinOf = async ({ tuple }: FlowRow) => {
    if (tuple === undefined) return undefined;
    const key = flowRecordKey(normaliseTuple(tuple).key);
    const socket = rig.stack.redisUrl.slice('unix:'.length);
    const { stdout } = await rig.lab.exec('mgmt', ['redis-cli', '-s', socket, 'get', key]);
    return decodeFlowRecord(stdout.trim()) ?? undefined;
  };

  it('flows go on; new ones are decided without it, counted, and recorded once it is back', async () => {
    const stream = await rig.stream();
    const before = await rig.flows();
    await rig.stack.kill('redis');
    await rig.until('Redis missed', ({ connected }) => connected.redis === false);
    const connections = await openConnections();
    expect(connections).toMatchObject({ opened: newFlows, failed: {} });

    // Counted by whoever chose, and by the gateway at its next sweep.
    expect(await unrecordedAnswers()).toBeGreaterThanOrEqual(newFlows);
    const away = await rig.until(
      'unrecorded flows counted',
      ({ figures }) => Number(figures.unrecorded ?? 0n) >= newFlows,
    );
    expect(away.alarms.map(({ code }) => code)).toContain('redis_unreachable');

    await rig.stack.start('redis');
    const back = await rig.until('everything recorded', (status) => {
      const { connected, figures, alarms } = status;
      return connected.redis === true && figures.unrecorded === 0n && alarms.length === 0;
    });
    expect(Number(back.figures['redis-recorded'] ?? 0n)).toBeGreaterThanOrEqual(newFlows);
    const { connections: reports } = await connections.report();
    const rows = await rig.flows();
    for (const { localPort, isOpen } of reports) {
      const row = rows.find(({ tuple }) => tuple?.sport === localPort);
      expect(isOpen).toBe(true);
      expect(row && (await pinOf(row))).toMatchObject({ path: row?.path });
    }

    for (const { port } of stream.localPorts) expect(nodeOf(rows, port)).toBe(nodeOf(before, port));
    expect(lostPackets(await stream.stop())).toBe(0);
    await connections.close();
  });

  it('a Redis that is silent holds up no new flow', async () => {
    rig.stack.pause('redis');
    const connections = await openConnections();
    expect(connections).toMatchObject({ opened: newFlows, failed: {} });
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    rig.stack.resume('redis');
    await rig.until('everything recorded', ({ connected, figures }) => {
      return connected.redis === true && figures.unrecorded === 0n;
    });
    const { connections: reports } = await connections.report();
    const pinned = async (): Promise<boolean> => {
      const rows = await rig.flows();
      const mine = rows.filter(({ tuple }) => reports.some(({ localPort }) => tuple?.sport === localPort));
      const pins = await Promise.all(mine.map(pinOf));
      return mine.length === newFlows && pins.every((pin, i) => pin?.path === mine[i]?.path);
    };
    await waitFor(pinned, {
      what: 'pins in Redis as the datapath has them',
      timeoutMs: 40_000,
      everyMs: 200,
    });
    await connections.close();
  });

  it('a Redis that answers half a second late holds up no new flow for longer than the budget; all are served, counted, and recorded once it is quick again', async () => {
    const stream = await rig.stream();
    const unrecorded = await unrecordedAnswers();
    relay.delay(500);
    const beganMs = performance.now();
    const connections = await openConnections();
    const tookMs = performance.now() - beganMs;
    expect(connections).toMatchObject({ opened: newFlows, failed: {} });
    expect(tookMs).toBeLessThan(500); // who had waited for Redis took longer
    // Whoever answers within a budget tells; the gateway itself, which writes without haste, still reaches it
    const alarms = () => rig.stack.cliJson<{ code: string; text: string }[]>(['get', 'alarms']);
    const isTold = async () => {
      await rig.get(); // told after a second in which nobody had an answer in time
      return (await alarms()).some(
        ({ code, text }) => code === 'redis_unreachable' && /after [4-9]\d\d ms/.test(text),
      );
    };
    await waitFor(isTold, { what: 'Redis told as late', timeoutMs: 20_000, everyMs: 100 });
    const lastTables = Number((await rig.status()).decided['last-tables'] ?? 0n);
    expect((await unrecordedAnswers()) - unrecorded + lastTables).toBeGreaterThanOrEqual(newFlows);
    const { connections: reports } = await connections.report();
    const rows = await rig.flows();
    for (const { localPort } of reports) expect(nodeOf(rows, localPort)).toMatch(/^fw[12]$/);

    relay.delay(0);
    await rig.until('everything recorded', ({ figures }) => figures.unrecorded === 0n);
    await waitFor(async () => (await rig.get()).ok && (await alarms()).length === 0, {
      ...{ what: 'the end of the alarm', timeoutMs: 20_000, everyMs: 100 },
    });
    for (const row of await rig.flows())
      if (reports.some(({ localPort }) => row.tuple?.sport === localPort))
        expect(await pinOf(row)).toMatchObject({ path: row.path });
    expect(lostPackets(await stream.stop())).toBe(0);
    await connections.close();
  });
});
