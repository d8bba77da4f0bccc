// SPDX-License-Identifier: Apache-2.0
import { clientAddresses, standardAddresses, standardPorts, startCapture, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, lostPackets, type Rig, raiseRig } from './rig.js';

/** A row of `detour get flows -o json`, as far as this test reads it. */
interface FlowJson {
  readonly protocol: string;
  readonly sourcePort: number;
  readonly nodes: readonly string[];
  readonly packetsForward: number;
  readonly packetsReverse: number;
  readonly ageMs: number;
}

describe('tunnel-gw is killed', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-takeover');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  it('no packet of an established flow is lost, and its successor takes over flows and counters', async () => {
    const stream = await rig.stream();
    const remote = { address: standardAddresses.server, port: standardPorts.echo };
    const connections = await rig.client.openTcp({
      ...{ count: 20, localAddresses: clientAddresses(4), remote, intervalMs: 50 },
    });
    expect(connections.opened).toBe(20);
    const exchanged = async (more: number): Promise<void> => {
      const { connections: now } = await connections.report();
      const least = Math.min(...now.map(({ received }) => received)) + more;
      const check = async (): Promise<boolean> =>
        (await connections.report()).connections.every(({ received }) => received >= least);
      await waitFor(check, { what: `${more} more messages on each connection`, everyMs: 50 });
    };
    await exchanged(5);
    const flowsBySourcePort = async (): Promise<Map<string, FlowJson>> => {
      const rows = await rig.stack.cliJson<FlowJson[]>(['get', 'flows']);
      return new Map(rows.map((row) => [`${row.protocol} ${row.sourcePort}`, row]));
    };
    const before = await flowsBySourcePort();
    const { pinDir } = await rig.status();
    expect(before.size).toBeGreaterThanOrEqual(28);

    await rig.stack.kill('tunnel-gw');
    await exchanged(20);
    // New flows are the one thing that stops, and they stop closed.
    await using capture = await startCapture(rig.lab, 'server', 'eth0', { filter: 'tcp port 80' });
    expect(await rig.get({ timeoutMs: 500 })).toMatchObject({ ok: false });
    expect(await capture.stop()).toEqual([]);

    await rig.stack.start('tunnel-gw');
    await rig.until('the gateway as before', (status) => status.runningRevision === 1 && bothUp(status));
    expect((await rig.status()).pinDir).toBe(pinDir);
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    await exchanged(5);
    const after = await flowsBySourcePort();
    for (const [id, was] of before) {
      const now = after.get(id);
      expect([id, now?.nodes]).toEqual([id, was.nodes]);
      expect(now?.packetsForward).toBeGreaterThan(was.packetsForward + 20);
      expect(now?.packetsReverse).toBeGreaterThan(was.packetsReverse + 20);
      expect(now?.ageMs).toBeGreaterThan(was.ageMs);
    }
    const { connections: reports } = await connections.report();
    expect(reports.every(({ isOpen, corrupt }) => isOpen && !corrupt)).toBe(true);
    expect(lostPackets(await stream.stop())).toBe(0);
    await connections.close();
  });
});
