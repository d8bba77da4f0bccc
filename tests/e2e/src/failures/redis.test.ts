// SPDX-License-Identifier: Apache-2.0
import { decodeFlowRecord, type FlowRow, flowRecordKey } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import { clientAddresses, standardAddresses, standardPorts, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, nodeOf, type Rig, raiseRig } from './rig.js';

const newFlows = 10;

describe('Redis is stopped', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-redis');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

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
});
