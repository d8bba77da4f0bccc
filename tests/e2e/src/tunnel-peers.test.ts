// SPDX-License-Identifier: Apache-2.0
// Firewalls behind Geneve and GRE whose far end is Open vSwitch's user-space datapath: up by BFD and echo through the tunnel, every packet of a
// connection through its firewall and back.
import { execFileSync } from 'node:child_process';
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Firewall,
  firewallAddresses,
  type Lab,
  type OvsTunnel,
  openFirewall,
  type Stack,
  standardAddresses,
  standardIntent,
  standardLab,
  standardPorts,
  startCapture,
  startOvsEnd,
  startStack,
  startTraffic,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const gateway = standardAddresses.edgeUnderlay;
/** Of the firewalls in order: their end of the tunnel, and what the intent says of it. */
const tunnels = [
  {
    what: 'Geneve, with a checksum',
    ovs: { protocol: 'geneve', remote: gateway, key: 5001, checksum: true },
    intent: { protocol: 'geneve', vni: 5001, inner: 'l2', checksum: true },
  },
  {
    what: 'GRE with a key, Ethernet inside',
    ovs: { protocol: 'gre', remote: gateway, key: 7 },
    intent: { protocol: 'gre', key: 7, inner: 'l2' },
  },
  {
    what: 'GRE with key and checksum, IP inside',
    ovs: {
      protocol: 'gre',
      remote: gateway,
      key: 9,
      checksum: true,
      l3: { peer: firewallAddresses(3).gatewayInner },
    },
    intent: { protocol: 'gre', key: 9, inner: 'l3', checksum: true },
  },
] as const satisfies readonly { what: string; ovs: OvsTunnel; intent: object }[];
const ports = [standardPorts.http[0], standardPorts.http[1], standardPorts.httpUnruled] as const;

async function useOvs(lab: Lab, index: number, tunnel: OvsTunnel): Promise<void> {
  const at = firewallAddresses(index);
  await lab.exec(at.name, ['ip', 'link', 'del', 'vxlan0']);
  await startOvsEnd(lab, {
    ns: at.name,
    underlayDevice: 'eth0',
    underlayAddress: `${at.underlay}/24`,
    device: 'vxlan0',
    mac: at.innerMac,
    addresses: [`${at.inner}/30`],
    tunnel,
  });
  await lab.exec(at.name, ['ip', 'route', 'add', 'default', 'via', at.gatewayInner, 'dev', 'vxlan0']);
  await lab.exec(at.name, [
    'sh',
    '-c',
    'cd /proc/sys/net/ipv4/conf/vxlan0; echo 0 >rp_filter; echo 0 >send_redirects',
  ]);
}

/** One service, chain and rule for each firewall, by destination port. */
function intentOf(standard: IntentDocument): IntentDocument {
  return {
    ...standard,
    services: standard.nodes?.map(({ name }) => ({ name })) ?? [],
    nodes: (standard.nodes ?? []).map((node, i) => {
      const at = firewallAddresses(i + 1);
      return {
        ...node,
        service: node.name,
        attach: {
          kind: 'tunnel' as const,
          remote: at.underlay,
          gateways: { edge1: { local: `${at.gatewayInner}/30`, peer: at.inner } },
          ...(tunnels[i] ?? tunnels[0]).intent,
        },
      };
    }),
    chains: standard.nodes?.map(({ name }) => ({ name, hops: [name] })) ?? [],
    rules: (standard.nodes ?? []).map(({ name }, i) => ({
      name,
      priority: 100 - i,
      match: { vrf: 'red', source: ['office'], protocol: 'tcp' as const, destinationPorts: [ports[i] ?? 0] },
      action: { chain: name },
    })),
  };
}

describe('firewalls behind Open vSwitch', () => {
  let lab: Lab;
  let stack: Stack;
  let client: TrafficAgent;
  let firewalls: Firewall[];

  beforeAll(async () => {
    lab = await createLab(standardLab({ firewalls: 3, daemons: ['bird', 'bird', 'bird'] }), {
      name: 'tunnel-peers',
    });
    await Promise.all(tunnels.map(({ ovs }, i) => useOvs(lab, i + 1, ovs)));
    stack = await startStack(lab);
    client = startTraffic(lab, 'client');
    firewalls = [1, 2, 3].map((index) => openFirewall(lab, `fw${index}`));
    const intent = intentOf(standardIntent({ firewalls: 3, bfd: { intervalMs: 100, multiplier: 5 } }));
    const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], {
      input: JSON.stringify(intent),
    });
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    const up = async (): Promise<boolean> => {
      const nodes = await stack.cliJson<{ gateways: { health: string }[] }[]>(['get', 'nodes']);
      return nodes.length === 3 && nodes.every((node) => node.gateways[0]?.health === 'up');
    };
    await waitFor(up, { what: 'three firewalls to be up', timeoutMs: 30_000, everyMs: 200 });
  }, 120_000);
  afterAll(() => lab?.close());

  it.each(tunnels.map(({ what, ovs }, i) => [what, ovs, i] as const))(
    '%s: a connection crosses the firewall both ways, each packet once, and tshark has no complaint',
    async (_what, ovs, i) => {
      const firewall = firewalls[i];
      const port = ports[i];
      if (firewall === undefined || port === undefined) throw new Error(`no firewall ${i}`);
      const underlay = firewallAddresses(i + 1).underlay;
      await using outside = await startCapture(lab, 'underlay', 'edge1', {
        filter: `host ${underlay} and (ip proto 47 or udp port 6081)`,
      });
      await using server = await startCapture(lab, 'server', 'eth0', { filter: `tcp port ${port}` });
      const remote = { address: standardAddresses.server, port };
      const answer = await client.httpGet({ remote, path: '/', timeoutMs: 5_000 });
      if (!answer.ok) throw new Error(answer.error);
      expect(answer.status).toBe(200);
      const tracked = await waitFor(
        async () => {
          const rows = await firewall.conntrack({ protocol: 'tcp', destinationPort: port, replied: true });
          return rows.length > 0 && rows.every(({ state }) => state === 'TIME_WAIT') && rows;
        },
        { what: 'the connection to be closed' },
      );
      const [row] = tracked;
      expect(tracked).toHaveLength(1);
      // Each packet that the server saw crossed the firewall once, in its direction.
      expect((row?.packets ?? 0) + (row?.replyPackets ?? 0)).toBe((await server.stop()).length);
      await outside.stop();
      const text = execFileSync(
        'tshark',
        [
          ...['-n', '-r', outside.file, '-o', 'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE'],
          ...[
            '-Y',
            '_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0 || gre.checksum.status == 0',
          ],
        ],
        { stdio: ['ignore', 'pipe', 'ignore'] },
      ).toString('utf8');
      expect(text).toBe('');
      const protocols = outside.packets().map(({ bytes }) => bytes[23]);
      expect(protocols.length).toBeGreaterThan(6);
      expect(new Set(protocols)).toEqual(new Set([ovs.protocol === 'gre' ? 47 : 17]));
    },
  );
});
