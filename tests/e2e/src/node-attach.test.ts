// SPDX-License-Identifier: Apache-2.0
// `detour node attach` in front of a real nftables firewall, behind Geneve with our metadata and as a gateway load balancer's appliance: chains work both
// ways, its connection tracking sees original addresses, its state says why it is not up, its attributes arrive, and nothing is left behind.
import {
  createLab,
  type Lab,
  type NodeAttach,
  readConntrack,
  type Stack,
  standardAddresses,
  standardLab,
  startNodeAttach,
  startStack,
  waitFor,
  withServiceNode,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AttachedView, intentOf, viewAttached } from './attached.js';

const UNDERLAY = '192.0.2.31';
const COLLECTOR = '172.30.0.1:9600';
const inner = { gateway: '169.254.31.1', node: '169.254.31.2' } as const;
const underlay = { device: 'eth0', address: UNDERLAY };

const TUNNEL = {
  node: 'svc1',
  underlay,
  attach: { kind: 'tunnel', protocol: 'geneve', vni: 5001 },
  gateways: [{ address: standardAddresses.edgeUnderlay, local: inner.node, peer: inner.gateway }],
  report: { to: COLLECTOR, everyMs: 300 },
};

let lab: Lab;
let stack: Stack;
let view: AttachedView;
let node: NodeAttach;

beforeAll(async () => {
  const spec = withServiceNode(standardLab({ firewalls: 1 }), {
    name: 'svc1',
    underlay: UNDERLAY,
    management: '172.30.0.31',
  });
  lab = await createLab(spec, { name: 'node-attach' });
  node = await startNodeAttach(lab, 'svc1', TUNNEL);
  stack = await startStack(lab, {
    env: (service) => (service === 'stats-collector' ? { DETOUR_LISTEN: COLLECTOR } : {}),
  });
  view = viewAttached({ lab, stack, node: 'svc1', filter: 'svc1' });
}, 120_000);
afterAll(() => lab?.close());

const apply = (attach: { readonly kind: string; readonly [key: string]: unknown }, profile: object = {}) =>
  view.apply(
    intentOf(
      {
        name: 'svc1',
        health: attach.kind === 'gwlb' ? 'own' : 'fast',
        attach: { remote: UNDERLAY, ...attach },
        ...(attach.kind === 'tunnel' && { attributes: { report: { staleAfter: '2s' } } }),
      },
      profile,
    ),
  );

const tunnel = (vni: number) => ({
  kind: 'tunnel',
  protocol: 'geneve',
  vni,
  metadata: true,
  gateways: { edge1: { local: `${inner.gateway}/30`, peer: inner.node } },
});

describe('behind Geneve with our metadata', () => {
  it('no gateway yet: it says so', async () => {
    await node.become('down', 'no packet from gateway 192.0.2.1 yet');
  });

  it('another VNI: it says which', async () => {
    await apply(tunnel(5002));
    await node.become('down', 'gateway 192.0.2.1 sends VNI 5002, this node has 5001');
  });

  it('is up on both sides when the intent fits', async () => {
    await apply(tunnel(5001));
    await view.gatewaySees('up');
    const status = await node.become('up');
    expect(status.gateways).toMatchObject([{ state: 'up', bfd: { state: 'up' } }]);
    expect(Object.keys(status.devices)).toContain('svc1-in');
  });

  it('connections cross the firewall both ways; it sees their own addresses and forbids what it forbids', async () => {
    const before = {
      accepted: await view.counter('accepted'),
      established: await view.counter('established'),
    };
    const answer = await view.get();
    if (!answer.ok) throw new Error(answer.error);
    expect(answer.status).toBe(200);
    const seen = await readConntrack(lab, 'svc1', {
      protocol: 'tcp',
      destination: standardAddresses.server,
      sourcePort: answer.localPort,
    });
    expect(seen).toMatchObject([{ source: standardAddresses.client, replied: true }]);
    expect((await view.counter('accepted')) - before.accepted).toBeGreaterThanOrEqual(1);
    expect((await view.counter('established')) - before.established).toBeGreaterThanOrEqual(4);
    const forbidden = await view.counter('forbidden');
    expect(await view.get(8081, 1_000)).toMatchObject({ ok: false });
    expect((await view.counter('forbidden')) - forbidden).toBeGreaterThanOrEqual(1);
    const { cookie = 0, strict_return = 0 } = await view.drops();
    expect({ cookie, strict_return }).toEqual({ cookie: 0, strict_return: 0 });
    expect((await node.status()).drops).not.toHaveProperty('strict_return');
  });

  it('its attributes arrive at stats-collector', async () => {
    await waitFor(
      async () => {
        const rows = await stack.cliJson<{ node: string; score: number; fresh: boolean }[]>([
          'get',
          'scores',
        ]);
        const row = rows.find((one) => one.node === 'svc1');
        return row?.fresh === true && row.score > 0; // the intent asks for reports: without them it is stale
      },
      { what: 'the score of svc1 to be made of what it reports', timeoutMs: 20_000, everyMs: 200 },
    );
    expect((await node.status()).report).toBeNull();
  });

  it('its filter stops forwarding: both ends say so, and recover', async () => {
    await view.blocked(true);
    await node.become('down', 'the interface pair is not forwarding');
    await view.gatewaySees('down', 'echo lost');
    await view.blocked(false);
    await view.gatewaySees('up');
    await node.become('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
  });

  it('ends early: gateways see it; another run takes over what it left, and a stopped one leaves nothing', async () => {
    await node.process.kill();
    await view.gatewaySees('down');
    node = await startNodeAttach(lab, 'svc1', TUNNEL);
    await view.gatewaySees('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
    await node.stop();
    const { stdout } = await lab.exec('svc1', ['sh', '-c', 'ip -o link; ip rule']);
    expect(stdout).not.toMatch(/svc1-|lookup 3784/);
  });
});

describe('as an appliance of a gateway load balancer', () => {
  it('is up by echo and TCP, returns cookies, and closes its port when its filter stops', async () => {
    node = await startNodeAttach(lab, 'svc1', {
      node: 'svc1',
      underlay,
      attach: { kind: 'gwlb' },
      gateways: [{ address: standardAddresses.edgeUnderlay }],
      tcp: { port: 8080 },
    });
    await apply({ kind: 'gwlb' }, { tcp: { port: 8080, everyMs: 200, multiplier: 3 } });
    await view.gatewaySees('up');
    await node.become('up');
    for (let i = 0; i < 3; i++) expect(await view.get()).toMatchObject({ ok: true, status: 200 });
    expect((await view.drops()).cookie ?? 0).toBe(0);
    await view.blocked(true);
    await node.become('down', 'the interface pair is not forwarding');
    await view.gatewaySees('down');
    await view.blocked(false);
    await view.gatewaySees('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
    await node.stop();
  });
});

describe('across a bridge', () => {
  it('packets cross, and a port taken out of the bridge is seen', async () => {
    if (node.process.isRunning()) await node.stop();
    node = await startNodeAttach(lab, 'svc1', {
      node: 'svc1',
      underlay,
      attach: { kind: 'gwlb' },
      gateways: [{ address: standardAddresses.edgeUnderlay }],
      pair: { forward: 'bridge' },
    });
    await waitFor(async () => Object.keys((await node.status()).devices).includes('svc1-out'), {
      what: 'both sides to be there',
    });
    const ip = (lines: readonly string[]) =>
      lab.exec('svc1', ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    await ip([
      'link add br-fw type bridge forward_delay 0',
      'link set br-fw addrgenmode none up',
      'link set svc1-in master br-fw',
      'link set svc1-out master br-fw',
    ]);
    await apply({ kind: 'gwlb' });
    await node.become('up');
    await view.gatewaySees('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
    await ip(['link set svc1-out nomaster']);
    await node.become('down', 'the interface pair is not forwarding');
    await view.gatewaySees('down', 'echo lost');
    await ip(['link set svc1-out master br-fw']);
    await view.gatewaySees('up');
    await node.stop();
  });
});
