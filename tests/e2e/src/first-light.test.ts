// SPDX-License-Identifier: Apache-2.0
// The least that must work, in a lab of one firewall: a packet through it both ways, straight traffic, the forbidden port, and both
// address families. Where this fails, larger tests say nothing.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createLab,
  type Firewall,
  type Lab,
  openFirewall,
  type Stack,
  standardAddresses,
  standardIntent,
  standardLab,
  standardPorts,
  startCapture,
  startStack,
  startTraffic,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

interface FlowRow {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly action: string;
  readonly rule: string;
  readonly nodes: readonly string[];
  readonly packetsForward: number;
  readonly packetsReverse: number;
}

describe('first light', () => {
  let lab: Lab;
  let stack: Stack;
  let client: TrafficAgent;
  let fw1: Firewall;

  beforeAll(async () => {
    lab = await createLab(standardLab({ firewalls: 1 }), { name: 'first-light' });
    stack = await startStack(lab);
    client = startTraffic(lab, 'client');
    fw1 = openFirewall(lab, 'fw1');
    const file = join(lab.dir, 'intent.json');
    writeFileSync(file, JSON.stringify(standardIntent({ firewalls: 1 })));
    const applied = await stack.cli(['apply', '-f', file, '--wait', '--timeout', '30s']);
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    const isUp = async (): Promise<boolean> => {
      const [path] = await stack.cliJson<{ gateways: { share: number }[] }[]>(['get', 'paths']);
      return path?.gateways[0]?.share === 1;
    };
    await waitFor(isUp, { what: 'fw1 to be chosen', timeoutMs: 30_000, everyMs: 200 });
  });
  afterAll(() => lab?.close());

  const get = (port: number, address: string = standardAddresses.server) =>
    client.httpGet({ remote: { address, port }, path: '/', timeoutMs: 2_500 });
  const flowOf = async (sourcePort: number): Promise<FlowRow | undefined> => {
    const rows = await stack.cliJson<FlowRow[]>(['get', 'flows']);
    return rows.find((row) => row.sourcePort === sourcePort);
  };

  it.each([
    ['IPv4', standardAddresses.server],
    ['IPv6', standardAddresses.server6],
  ])('%s that a rule names passes the firewall in both directions, once', async (_family, address) => {
    await using capture = await startCapture(lab, 'server', 'eth0', {
      filter: `tcp port ${standardPorts.http[0]}`,
    });
    const answer = await get(standardPorts.http[0], address);
    if (!answer.ok) throw new Error(answer.error);
    expect(answer.status).toBe(200);
    const { localPort } = answer;
    const closed = async () => {
      const rows = await fw1.conntrack({ protocol: 'tcp', sourcePort: localPort });
      return rows.every(({ state }) => state === 'TIME_WAIT') && rows;
    };
    const tracked = await waitFor(closed, { what: 'the connection to be closed' });
    expect(tracked).toMatchObject([{ destination: address, replied: true }]);
    const packets = (await capture.stop()).length;
    const [row] = tracked;
    // Each packet that the server saw crossed the firewall once, in its direction.
    expect((row?.packets ?? 0) + (row?.replyPackets ?? 0)).toBe(packets);
    expect(await flowOf(answer.localPort)).toMatchObject({
      action: 'steer',
      rule: 'web-out',
      nodes: ['fw1'],
      packetsForward: row?.packets,
      packetsReverse: row?.replyPackets,
    });
  });

  it.each([
    ['IPv4', standardAddresses.server],
    ['IPv6', standardAddresses.server6],
  ])('%s that no rule names goes straight', async (_family, address) => {
    const answer = await get(standardPorts.httpUnruled, address);
    if (!answer.ok) throw new Error(answer.error);
    expect(answer.status).toBe(200);
    expect(await fw1.conntrack({ destinationPort: standardPorts.httpUnruled })).toEqual([]);
    expect(await flowOf(answer.localPort)).toMatchObject({ action: 'allow', nodes: [] });
  });

  it('the forbidden port is blocked, by the firewall', async () => {
    const before = await fw1.counters();
    const answer = await get(standardPorts.http[2]);
    expect(answer).toMatchObject({ ok: false, error: 'ETIMEDOUT' });
    const after = await fw1.counters();
    expect(after.forbidden?.packets).toBeGreaterThan(before.forbidden?.packets ?? Number.POSITIVE_INFINITY);
  });

  it('UDP that a rule names passes the firewall, and no packet is lost or doubled', async () => {
    const remote = { address: standardAddresses.server, port: standardPorts.echo };
    const stream = await client.startUdp({ remote, localAddresses: [standardAddresses.client], pps: 500 });
    const isTracked = async (): Promise<boolean> =>
      (await fw1.conntrack({ protocol: 'udp', destinationPort: standardPorts.echo, replied: true }))
        .length === 1;
    await waitFor(isTracked, { what: 'the stream in conntrack' });
    const report = await stream.stop();
    expect(report).toMatchObject({ lost: 0, duplicated: 0, receiveBufferErrors: 0 });
    expect(report.received).toBeGreaterThan(0);
  });
});
