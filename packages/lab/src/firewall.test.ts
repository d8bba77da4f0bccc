// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFirewall } from './firewall.js';
import { firewallAddresses } from './firewall-spec.js';
import { createLab, type Lab } from './lab.js';
import type { LabSpec, NamespaceSpec } from './spec.js';
import { standardAddresses, standardLab, standardPorts } from './standard-lab.js';
import { startTraffic, type TrafficAgent } from './traffic.js';

const { client, client6, server, server6 } = standardAddresses;
const steered = 200;

/**
 * A gateway made by hand from kernel devices: all of the client's traffic goes through fw1, over IPv4 and IPv6. BIRD
 * talks BFD to both firewalls, so that both daemons are seen to answer.
 */
function handMadeGateway(standard: LabSpec): NamespaceSpec {
  const tunnels = [1, 2].map((index) => ({ name: `vx${index}`, at: firewallAddresses(index) }));
  const [first] = tunnels;
  if (first === undefined) throw new Error('no tunnel');
  const bird = tunnels.map(
    ({ name, at }) => `interface "${name}" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; };
      neighbor ${at.inner} dev "${name}" local ${at.gatewayInner};`,
  );
  const devices = ['all', 'default', 'eth0', 'eth1', 'eth2', 'vx1', 'vx2'];
  return {
    ...standard.namespaces.edge1,
    vxlans: tunnels.map(({ name, at }) => ({
      name,
      vni: at.vni,
      local: standardAddresses.edgeUnderlay,
      remote: at.underlay,
      mac: at.gatewayInnerMac,
      addresses: [`${at.gatewayInner}/30`, `${at.gatewayInner6}/64`],
    })),
    routes: [
      { to: 'default', via: first.at.inner, dev: first.name, table: steered },
      { to: '::/0', via: first.at.inner6, dev: first.name, table: steered },
    ],
    rules: ['eth1', 'eth2'].flatMap((iif) => [
      { iif, table: steered, priority: 100 },
      { iif, table: steered, priority: 100, family: 6 as const },
    ]),
    sysctls: {
      'net.ipv4.ip_forward': 1,
      'net.ipv6.conf.all.forwarding': 1,
      ...Object.fromEntries(devices.map((device) => [`net.ipv4.conf.${device}.rp_filter`, 0])),
    },
    processes: [
      {
        name: 'bird',
        argv: ['bird', '-f', '-c', '{dir}/bird.conf', '-s', '{dir}/bird.ctl', '-P', '{dir}/bird.pid'],
        files: {
          'bird.conf': `router id 1.1.1.1;\nprotocol device { }\nprotocol bfd {\n${bird.join('\n')}\n}\n`,
        },
      },
    ],
  };
}

let lab: Lab;
let traffic: TrafficAgent;

beforeAll(async () => {
  const standard = standardLab();
  const namespaces = { ...standard.namespaces, edge1: handMadeGateway(standard) };
  lab = await createLab({ ...standard, namespaces }, { name: `lab-fw-${process.pid}` });
  traffic = startTraffic(lab, 'client');
});
afterAll(() => lab.close());

const get = (address: string, port: number) =>
  traffic.httpGet({ remote: { address, port }, path: '/who', timeoutMs: 1_000 });

describe('a firewall of the standard lab', () => {
  it('inspects a connection in both directions, IPv4 and IPv6', async () => {
    const fw1 = openFirewall(lab, 'fw1');
    const port = standardPorts.http[0];
    for (const [from, to] of [
      [client, server],
      [client6, server6],
    ] as const) {
      const result = await get(to, port);
      expect(result).toMatchObject({ ok: true, status: 200 });
      const sourcePort = result.ok ? result.localPort : 0;
      const rows = await fw1.conntrack({ source: from, destination: to, sourcePort });
      expect(rows).toMatchObject([{ protocol: 'tcp', destinationPort: port, replied: true }]);
    }
    expect((await fw1.counters()).established?.packets).toBeGreaterThan(8);
  });

  it('blocks the forbidden port, and counts it', async () => {
    const fw1 = openFirewall(lab, 'fw1');
    const before = (await fw1.counters()).forbidden?.packets ?? 0;
    expect(await get(server, 8081)).toMatchObject({ ok: false, error: 'ETIMEDOUT' });
    expect((await fw1.counters()).forbidden?.packets).toBeGreaterThan(before);
  });

  it('drops the middle of a connection that it does not know', async () => {
    const fw1 = openFirewall(lab, 'fw1');
    const remote = { address: server, port: standardPorts.echo };
    const connections = await traffic.openTcp({ count: 3, localAddresses: [client], remote, intervalMs: 20 });
    expect(connections).toMatchObject({ opened: 3, failed: {} });
    const received = async (): Promise<number> =>
      Math.min(...(await connections.report()).connections.map((c) => c.received));
    await expect.poll(received).toBeGreaterThan(5);
    await fw1.flushConntrack();
    const dropped = async (): Promise<number> => {
      const { invalid, not_syn: notSyn } = await fw1.counters();
      return (invalid?.packets ?? 0) + (notSyn?.packets ?? 0);
    };
    await expect.poll(dropped).toBeGreaterThan(3);
    await expect
      .poll(async () => Math.min(...(await connections.report()).connections.map((c) => c.maxGapMs)))
      .toBeGreaterThan(300);
    await connections.close('rst');
  });

  it('answers BFD, in BIRD and in FRR', async () => {
    for (const ns of ['fw1', 'fw2']) {
      await expect
        .poll(() => openFirewall(lab, ns).bfdPeers(), { timeout: 8_000 })
        .toMatchObject([{ state: 'up' }]);
    }
  });

  it('stops forwarding while its daemon still answers, and comes back', async () => {
    const fw1 = openFirewall(lab, 'fw1');
    const stream = await traffic.startUdp({
      remote: { address: server, port: standardPorts.echo },
      localAddresses: [client],
      pps: 1_000,
      flows: 4,
    });
    const accepted = async (): Promise<number> =>
      (await fw1.conntrack({ protocol: 'udp', replied: true })).length;
    await expect.poll(accepted).toBeGreaterThanOrEqual(4);
    await fw1.stopForwarding();
    expect(await get(server, 80)).toMatchObject({ ok: false });
    expect(await fw1.bfdPeers()).toMatchObject([{ state: 'up' }]);
    await fw1.restore();
    expect(await get(server, 80)).toMatchObject({ ok: true });
    const report = await stream.stop();
    expect(report.duplicated).toBe(0);
    expect(report.reordered).toBe(0);
    // Out of service for the one second that the refused request waited; rate and outage must agree.
    const [outage] = report.outages;
    expect(outage?.lenMs).toBeGreaterThan(900);
    expect(outage?.lost).toBeGreaterThan(900);
    expect(report.sent - report.received).toBe(report.lost);
  });

  it('falls silent while its links stay up, so that its peer sees it down', async () => {
    const fw2 = openFirewall(lab, 'fw2');
    const ask = ['birdc', '-s', `${lab.dir}/edge1/bird/bird.ctl`, 'show', 'bfd', 'sessions'];
    const gatewayView = async (): Promise<string> =>
      (await lab.exec('edge1', ask)).stdout.split('\n').find((line) => line.includes('vx2')) ?? '';
    expect(await gatewayView()).toMatch(/ Up /);
    await fw2.silence();
    await expect.poll(gatewayView).toMatch(/ Down /);
    expect((await lab.exec('fw2', ['ip', '-br', 'link', 'show', 'eth0'])).stdout).toContain('UP');
    await fw2.restore();
    await fw2.restore(); // restoring what works is no error
    await expect.poll(gatewayView, { timeout: 8_000 }).toMatch(/ Up /);
  });
});
