// SPDX-License-Identifier: Apache-2.0
// SNAT behind a real, stateful firewall (nftables, connection tracking), with the stacks of real ends: TCP connections whose server sees the SNAT
// address alone, a tunnel-gw that is started again in their middle, errors from outside, and what `detour` says of it all.
import type { IntentDocument } from '@detour/intent';
import { standardAddresses as at, clientAddresses, standardPorts, startCapture, waitFor } from '@detour/lab';
import { parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OneFirewall, oneFirewallIntent, raiseOneFirewall } from './acceptance/one-firewall.js';

const ON_DEVICE = '203.0.113.77';
const ROUTED = '198.51.100.1';

function intentWith(snat: string): IntentDocument {
  return {
    ...oneFirewallIntent,
    gateways: (oneFirewallIntent.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: (gateway.ports ?? []).map((port) => (port.kind === 'uplink' ? { ...port, snat } : port)),
    })),
  };
}

interface FlowRow {
  readonly source: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly snat: string;
}

describe('SNAT behind a stateful firewall', () => {
  let rig: OneFirewall;
  beforeAll(async () => {
    rig = await raiseOneFirewall('snat', { underlayMtu: 1600 });
    await rig.lab.exec('edge1', ['ip', 'address', 'add', `${ON_DEVICE}/32`, 'dev', 'eth2']);
    await rig.lab.exec('server', ['ip', 'route', 'add', `${ROUTED}/32`, 'via', at.edgeOutside]);
  }, 120_000);
  afterAll(() => rig?.[Symbol.asyncDispose]());

  const flows = (): Promise<FlowRow[]> => rig.stack.cliJson(['get', 'flows']);
  const remote = { address: at.server, port: standardPorts.echo };

  it.each([
    ['on a device of the gateway, which answers ARP for it', ON_DEVICE],
    ['routed to the gateway', ROUTED],
  ])('TCP connections by an address %s', async (_where, snat) => {
    await rig.apply(intentWith(snat));
    await rig.fw1.flushConntrack();
    await using arrived = await startCapture(rig.lab, 'server', 'eth0', {
      ...{ direction: 'in', filter: `tcp port ${remote.port}` },
    });
    const locals = clientAddresses(4);
    const group = await rig.client.openTcp({ count: 40, localAddresses: locals, remote, intervalMs: 50 });
    expect([group.opened, group.failed]).toEqual([40, {}]);
    const { connections } = await waitFor(
      async () => {
        const report = await group.report();
        return report.connections.every(({ received }) => received >= 5) && report;
      },
      { what: 'five echoes on every connection' },
    );
    const rows = (await flows()).filter(
      ({ destinationPort, source, sourcePort }) =>
        destinationPort === remote.port &&
        connections.some((one) => one.localAddress === source && one.localPort === sourcePort),
    );
    expect(new Set(rows.map((row) => row.snat)).size).toBe(40);
    for (const row of rows) expect(row.snat.startsWith(`${snat}:`)).toBe(true);
    // The firewall tracks the client's own end points, and saw replies to them.
    const tracked = await rig.fw1.conntrack({ protocol: 'tcp', destinationPort: remote.port });
    for (const { localAddress, localPort } of connections)
      expect(tracked).toContainEqual(
        expect.objectContaining({
          source: localAddress,
          sourcePort: localPort,
          replied: true,
          state: 'ESTABLISHED',
        }),
      );
    expect(tracked.filter(({ source }) => source === snat)).toEqual([]);

    // Bindings outlive tunnel-gw, and none is given away twice by the next one.
    await rig.stack.kill('tunnel-gw');
    await rig.stack.start('tunnel-gw');
    const before = await group.report();
    const received = (report: typeof before) => Math.min(...report.connections.map((one) => one.received));
    const least = received(before);
    await waitFor(async () => received(await group.report()) >= least + 5, { what: 'five more echoes' });
    const more = await rig.client.openTcp({ count: 40, localAddresses: locals, remote, intervalMs: 50 });
    expect([more.opened, more.failed]).toEqual([40, {}]);
    const outside = (await flows()).filter(
      (row) => row.destinationPort === remote.port && row.snat.startsWith(`${snat}:`),
    );
    expect(new Set(outside.map((row) => row.snat)).size).toBe(outside.length);
    expect(outside.length).toBeGreaterThanOrEqual(80);
    const after = await group.report();
    expect(after.connections.filter(({ isOpen }) => !isOpen)).toEqual([]);
    await group.close();
    await more.close();
    const sources = new Set(
      (await arrived.stop()).map(({ bytes }) => {
        const frame = parseFrame(bytes);
        return frame.ok ? frame.value.ipv4?.src : frame.why;
      }),
    );
    expect(sources).toEqual(new Set([snat]));
  });

  it('trace says what the datapath does: which source it leaves with, to whom an answer goes, and what is nobody’s', async () => {
    const group = await rig.client.openTcp({ count: 1, localAddresses: [at.client], remote, intervalMs: 50 });
    const [connection] = (await group.report()).connections;
    const local = connection?.localPort ?? 0;
    const row = await waitFor(
      async () =>
        (await flows()).find(
          (one) => one.sourcePort === local && one.source === at.client && one.snat !== '',
        ),
      { what: 'the flow with its binding' },
    );
    type Traced = {
      verdict: string;
      reason: string;
      node: string;
      egress: string;
      steps: { step: string; found: string }[];
    };
    const trace = (port: string, src: string, dst: string, sport: number, dport: number) =>
      rig.stack.cliJson<Traced>([
        ...['trace', '--port', port, '--src', src, '--dst', dst, '--proto', 'tcp'],
        ...['--sport', `${sport}`, '--dport', `${dport}`],
      ]);
    const said = ({ steps }: Traced) => steps.find(({ step }) => step === 'snat')?.found;
    const out = await trace('fw1', at.client, at.server, local, remote.port);
    expect([out.verdict, out.egress, said(out)]).toEqual(['forward', 'eth2', `from ${row.snat}`]);
    const port = Number(row.snat.split(':')[1]);
    const back = await trace('outside', at.server, ROUTED, remote.port, port);
    expect([back.verdict, back.node, said(back)]).toEqual(['forward', 'fw1', `to ${at.client}:${local}`]);
    const free = port === 65_535 ? 65_534 : port + 1;
    expect(await trace('outside', at.server, ROUTED, remote.port, free)).toMatchObject({
      verdict: 'drop',
      reason: 'snat_unknown',
    });
    await group.close();
  });
});
