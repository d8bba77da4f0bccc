// SPDX-License-Identifier: Apache-2.0
// A node that is an appliance of a gateway load balancer: up by its TCP port and by packets to ourselves through it; connections through it with all
// three options; what it returns with another cookie is dropped; each of the two probes alone takes it down.
import {
  type Appliance,
  createLab,
  type Lab,
  type LabSpec,
  type Stack,
  standardAddresses,
  standardIntent,
  standardLab,
  standardPorts,
  startAppliance,
  startStack,
  startTraffic,
  type TrafficAgent,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ADDRESS = '192.0.2.31';
const HEALTH_PORT = 8_080;

function withAppliance(spec: LabSpec): LabSpec {
  return {
    namespaces: { ...spec.namespaces, app: {} },
    links: [
      ...spec.links,
      {
        a: { ns: 'app', device: 'eth0', addresses: [`${ADDRESS}/24`], txOffload: 'off' },
        b: { ns: 'underlay', device: 'app', bridge: 'br0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
    ],
  };
}

interface Node {
  readonly name: string;
  readonly gateways: readonly { readonly health: string; readonly why: string }[];
}

describe('an appliance behind gwlb', () => {
  let lab: Lab;
  let stack: Stack;
  let client: TrafficAgent;
  let appliance: Appliance;
  const become = (health: string, why = '') =>
    waitFor(
      async () => {
        const nodes = await stack.cliJson<Node[]>(['get', 'nodes']);
        const seen = nodes.find(({ name }) => name === 'app1')?.gateways[0];
        return seen?.health === health && seen.why.includes(why);
      },
      { what: `app1 to be ${health} ${why}`, timeoutMs: 30_000, everyMs: 200 },
    );
  const drops = async (): Promise<Record<string, number>> => {
    const rows = await stack.cliJson<{ reason: string; packets: number }[]>(['get', 'drops']);
    return Object.fromEntries(rows.map(({ reason, packets }) => [reason, packets]));
  };
  const get = (timeoutMs = 5_000) =>
    client.httpGet({
      remote: { address: standardAddresses.server, port: standardPorts.http[0] },
      path: '/',
      timeoutMs,
    });

  beforeAll(async () => {
    lab = await createLab(withAppliance(standardLab({ firewalls: 1 })), { name: 'gwlb' });
    appliance = await startAppliance(lab, 'app', ADDRESS, HEALTH_PORT);
    stack = await startStack(lab);
    client = startTraffic(lab, 'client');
    const standard = standardIntent({ firewalls: 1 });
    const intent = {
      ...standard,
      healthProfiles: [
        {
          name: 'appliance',
          bfd: { echo: { everyMs: 100, multiplier: 4 } },
          tcp: { port: HEALTH_PORT, everyMs: 200, multiplier: 3 },
        },
      ],
      nodes: [
        {
          name: 'app1',
          service: 'firewall',
          health: 'appliance',
          attach: { kind: 'gwlb' as const, remote: ADDRESS },
        },
      ],
    };
    const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], {
      input: JSON.stringify(intent),
    });
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    await become('up');
  }, 120_000);
  afterAll(() => lab?.close());

  it('connections cross it both ways; each has one cookie of its own and all three options', async () => {
    const before = await appliance.report();
    expect(before.echoes).toBeGreaterThan(0);
    const ports = new Set<number>();
    for (let i = 0; i < 3; i++) {
      const answer = await get();
      if (!answer.ok) throw new Error(answer.error);
      expect(answer.status).toBe(200);
      ports.add(answer.localPort);
    }
    const { flows, packets, broken } = await appliance.report();
    expect(packets - before.packets).toBeGreaterThanOrEqual(3 * 8);
    expect(broken).toBe(0);
    const ours = Object.entries(flows).filter(([name]) =>
      [...ports].some((port) => name.includes(`:${port}`)),
    );
    expect(ours).toHaveLength(3);
    for (const [, flow] of ours) {
      expect(flow.options).toEqual([
        [0x108, 1, 8],
        [0x108, 2, 8],
        [0x108, 3, 4],
      ]);
      expect(flow.cookies).toHaveLength(1);
      expect(flow.ids).toMatch(/^0{15}[1-9a-f]0{15}[1-9a-f]$/);
    }
    expect(new Set(ours.flatMap(([, flow]) => flow.cookies)).size).toBe(3);
    expect((await drops()).cookie ?? 0).toBe(0);
  });

  it('what it returns with a cookie that is not the flow’s is dropped and counted', async () => {
    await appliance.setMode('forge');
    const before = (await drops()).cookie ?? 0;
    const answer = await get(1_500);
    expect(answer).toMatchObject({ ok: false });
    expect((await drops()).cookie ?? 0).toBeGreaterThan(before);
    await appliance.setMode('return');
    expect(await get()).toMatchObject({ ok: true, status: 200 });
  });

  it('its TCP port falls silent: down, although packets still come back', async () => {
    await appliance.setHealth(false);
    await become('down', 'the TCP port does not answer');
    await appliance.setHealth(true);
    await become('up');
  });

  it('packets do not come back any more: down, although its TCP port answers', async () => {
    await appliance.setMode('hold');
    await become('down', 'echo lost');
    await appliance.setMode('return');
    await become('up');
    expect(await get()).toMatchObject({ ok: true, status: 200 });
  });
});
