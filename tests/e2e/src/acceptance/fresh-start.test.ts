// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { firewallAddresses, type Lab, standardAddresses, startCapture, waitFor } from '@detour/lab';
import { describe, expect, it } from 'vitest';
import { startAcceptanceLab } from './acceptance-lab.js';
import { HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import { crowdServer } from './crowd.js';
import { readTunnel, statesOf } from './tunnel-log.js';

/** Its link loses carrier and its daemon is gone; what is configured in it stays, as on a disk. */
async function powerOff(lab: Lab): Promise<void> {
  await lab.process('fw1', 'bird').kill();
  await lab.exec('fw1', ['ip', 'link', 'set', 'eth0', 'down']);
}

async function powerOn(lab: Lab): Promise<void> {
  await lab.exec('fw1', ['ip', 'link', 'set', 'eth0', 'up']);
  const file = (name: string) => join(lab.dir, 'fw1', 'bird', name);
  lab.spawn('fw1', ['bird', '-f', '-c', file('bird.conf'), '-s', file('bird.ctl'), '-P', file('bird.pid')], {
    name: 'bird',
  });
}

describe('a node that is off when the gateway starts', () => {
  it('VRFC-4 none of the matching packets is redirected while it is off and its row shows Down; redirection begins after Down, Init, Up', async () => {
    await using bench = await startAcceptanceLab('acc-fresh', {
      firewalls: 1,
      beforeStack: powerOff,
      awaitUp: [],
    });
    const { client } = bench.crowd;
    const background = ['hop_not_ready']; // BFD to a node that answers no ARP
    const row = async () => (await bench.tables()).policies.find(({ path }) => path === 'fw1')?.bfd;
    await waitFor(async () => (await row()) === 'down', { what: "fw1's row to show Down" });
    const sessions = await bench.stack.cliJson<{ node: string; state: string }[]>(['get', 'sessions']);
    expect(sessions).toMatchObject([{ node: 'fw1', state: 'Down' }]);
    await using capture = await startCapture(bench.lab, 'underlay', 'edge1', { filter: 'udp port 4789' });

    const whileOff = await openBalance(bench, { background });
    const off = { first: 0, count: 500, proto: 'tcp' } as const;
    expect(await client.open({ ...off, window: 500, giveUpMs: 1_000 })).toMatchObject({ answered: 0 });
    const lost = await whileOff.settle();
    expect(lost).toMatchObject({ sent: 500, delivered: 0, dropped: { node_down: 500 }, endedInNode: {} });
    expect(await row()).toBe('down');

    const booting = await openBalance(bench, { background });
    const flows = { first: 1_000, count: 2_000, proto: 'udp' } as const;
    await client.stream(flows, 1_000); // matching packets arrive all the time, before, during and after the handshake
    await powerOn(bench.lab);
    await bench.awaitNodes(['fw1'], true);
    const answered = (await client.report()).received.answer;
    await waitFor(async () => (await client.report()).received.answer > answered + 500, {
      what: 'answers through fw1',
    });
    await client.stop();

    const { underlay } = firewallAddresses(1);
    const log = readTunnel(await capture.stop(), crowdServer.port);
    const gatewayStates = statesOf(log, standardAddresses.edgeUnderlay);
    const nodeStates = statesOf(log, underlay);
    // RFC 5880 6.2: whoever hears Down goes to Init; who hears Init goes to Up. At least one side takes all three steps.
    expect([gatewayStates, nodeStates]).toContainEqual(['down', 'init', 'up']);
    expect(gatewayStates[0]).toBe('down');
    expect(nodeStates[0]).toBe('down');
    const upAtUs = log.find(
      (entry) =>
        entry.kind === 'bfd' && entry.from === standardAddresses.edgeUnderlay && entry.state === 'up',
    )?.atUs;
    const redirected = log.filter((entry) => entry.kind === 'redirected');
    expect(redirected.length).toBeGreaterThan(1_000);
    expect(redirected[0]?.atUs).toBeGreaterThan(upAtUs ?? Number.POSITIVE_INFINITY);

    const books = await booting.settle();
    expect(books.hops).toEqual({ [HOPS_THROUGH_ONE_NODE]: books.delivered });
    expect(Object.keys(books.dropped)).toEqual(['node_down']);
    expect(books).toMatchObject({ endedInNode: {}, bypassed: 0, corrupt: 0 });
    expect(await row()).toBe('up');
  });
});
