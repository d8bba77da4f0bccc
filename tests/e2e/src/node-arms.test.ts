// SPDX-License-Identifier: Apache-2.0
// `detour node attach` in front of a router with two arms, behind GRE, as docs/attach-a-node.md has it: connections begun on either side cross its nftables filter as the only hop, its
// liveness is that of its forwarding, and what one arm lacks is said by name.
import { fileURLToPath } from 'node:url';
import {
  routerArms as arms,
  standardAddresses as at,
  createLab,
  type Lab,
  type NodeAttach,
  readConntrack,
  type Stack,
  standardIntent,
  standardLab,
  startCapture,
  startNodeAttach,
  startStack,
  startTraffic,
  waitFor,
  withServiceRouter,
} from '@detour/lab';
import { parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AttachedView, intentOf, nodeDocument, viewAttached } from './attached.js';

const UNDERLAY = '192.0.2.32';
const inner = { gateway: '169.254.32.1', node: '169.254.32.2' } as const;
/** Of the client, for what the server begins. */
const INNER_PORT = 8_099;
const server = fileURLToPath(new URL('../../../packages/lab/dist/agents/server.js', import.meta.url));

let lab: Lab;
let stack: Stack;
let view: AttachedView;
let node: NodeAttach;
const inRouter = (...argv: readonly string[]) => lab.exec('rtr1', argv);

beforeAll(async () => {
  const spec = withServiceRouter(standardLab({ firewalls: 1 }), {
    name: 'svc2',
    router: 'rtr1',
    underlay: UNDERLAY,
    management: '172.30.0.32',
  });
  lab = await createLab(spec, { name: 'node-arms' });
  await inRouter('ip', 'link', 'set', 'dev', arms.in.far, 'arp', 'off');
  node = await startNodeAttach(lab, 'svc2', nodeDocument('svc2'));
  stack = await startStack(lab);
  view = viewAttached({ lab, stack, node: 'svc2', filter: 'rtr1' });
  const intent = intentOf({
    name: 'svc2',
    attach: {
      kind: 'tunnel',
      protocol: 'gre',
      remote: UNDERLAY,
      inner: 'l3',
      gateways: { edge1: { local: `${inner.gateway}/30`, peer: inner.node } },
    },
  });
  const inbound = { vrf: 'red', destination: ['office'], protocol: 'tcp', destinationPorts: [INNER_PORT] };
  await view.apply({
    ...intent,
    rules: [
      ...(standardIntent().rules ?? []),
      { name: 'inbound', priority: 80, match: inbound, action: { chain: 'inspect' } },
    ],
  });
}, 120_000);
afterAll(() => lab?.close());

/** TTLs of one connection's packets, by where they were seen; each place once. */
async function ttlsOf(port: number, act: () => Promise<unknown>) {
  const places = [
    ['rtr1', arms.in.far],
    ['rtr1', arms.out.far],
    ['server', 'eth0'],
    ['client', 'eth0'],
  ] as const;
  const captures = await Promise.all(
    places.map(([ns, device]) => startCapture(lab, ns, device, { filter: `ip and tcp port ${port}` })),
  );
  await act();
  return Promise.all(
    captures.map(async (capture) => {
      const seen = (await capture.stop()).map(({ bytes }) => parseFrame(bytes));
      const ttls = (from: string) =>
        [
          ...new Set(seen.flatMap((f) => (f.ok && f.value.ipv4?.src === from ? [f.value.ipv4.ttl] : []))),
        ].sort();
      return { ofClient: ttls(at.client), ofServer: ttls(at.server) };
    }),
  );
}

describe('a router with two arms behind the node', () => {
  it('a next hop that does not answer is named', async () => {
    await node.become('down', `next hop ${arms.in.router} does not answer on ${arms.in.device}`);
    await inRouter('ip', 'link', 'set', 'dev', arms.in.far, 'arp', 'on');
    await view.gatewaySees('up');
    await node.become('up');
  });

  it('a connection crosses it both ways, TTL one less; it sees its own addresses and forbids what it forbids', async () => {
    const established = await view.counter('established');
    let port = 0;
    const [a, b, far, near] = await ttlsOf(80, async () => {
      const answer = await view.get();
      if (!answer.ok) throw new Error(answer.error);
      port = answer.localPort;
    });
    // Out of the client and the server with 64; the router is one hop, the gateway the other.
    expect(a).toEqual({ ofClient: [64], ofServer: [63] });
    expect(b).toEqual({ ofClient: [63], ofServer: [64] });
    expect([far?.ofClient, near?.ofServer]).toEqual([[62], [62]]);
    const tracked = await readConntrack(lab, 'rtr1', {
      protocol: 'tcp',
      destination: at.server,
      sourcePort: port,
    });
    expect(tracked).toMatchObject([{ source: at.client, replied: true }]);
    expect((await view.counter('established')) - established).toBeGreaterThanOrEqual(4);
    const forbidden = await view.counter('forbidden');
    expect(await view.get(8081, 1_000)).toMatchObject({ ok: false });
    expect((await view.counter('forbidden')) - forbidden).toBeGreaterThanOrEqual(1);
    expect(await view.get(80, 5_000, at.server6)).toMatchObject({ ok: true, status: 200 });
  });

  it('a connection that the other side begins enters by the first arm as well', async () => {
    const argv = [process.execPath, server, JSON.stringify({ http: [INNER_PORT], echo: [], workers: 1 })];
    const listener = lab.spawn('client', argv, { name: 'inner-server' });
    await waitFor(() => listener.log().includes('ready'), { what: 'the client to listen' });
    await using outside = startTraffic(lab, 'server');
    const remote = { address: at.client, port: INNER_PORT };
    const [a, b, , near] = await ttlsOf(INNER_PORT, async () => {
      expect(await outside.httpGet({ remote, path: '/', timeoutMs: 5_000 })).toMatchObject({ ok: true });
    });
    expect(a).toEqual({ ofClient: [63], ofServer: [64] });
    expect(b).toEqual({ ofClient: [64], ofServer: [63] });
    expect(near?.ofServer).toEqual([62]);
    await listener.stop();
    const { strict_return = 0, service_loop = 0 } = (await node.status()).drops;
    expect({ strict_return, service_loop }).toEqual({ strict_return: 0, service_loop: 0 });
  });

  it('it stops forwarding while both arms answer: both ends say so, nothing leaks, and they recover', async () => {
    await inRouter('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    await node.become('down', `came out of ${arms.in.device}, none came back by ${arms.out.device}`);
    await view.gatewaySees('down', 'echo lost');
    expect(await view.get(80, 1_000)).toMatchObject({ ok: false });
    await inRouter('sysctl', '-qw', 'net.ipv4.ip_forward=1');
    await view.gatewaySees('up');
    await node.become('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
  });

  it('an arm goes away and comes back, the router with another MAC address', async () => {
    const inNode = (...argv: readonly string[]) => lab.exec('svc2', argv);
    await inNode('ip', 'link', 'set', 'dev', arms.in.device, 'down');
    await node.become('down', `device ${arms.in.device} is down`);
    await inRouter('ip', 'link', 'set', 'dev', arms.in.far, 'address', '02:00:00:00:77:01');
    await inNode('ip', 'link', 'set', 'dev', arms.in.device, 'up');
    await view.gatewaySees('up');
    await node.become('up');
    expect(await view.get()).toMatchObject({ ok: true, status: 200 });
  });

  it('stopped, it leaves the arms as they were', async () => {
    await node.stop();
    const script = 'ip -d link; ip rule; ip neigh';
    const { stdout } = await lab.exec('svc2', ['sh', '-c', script]);
    expect(stdout).toContain(arms.in.device);
    expect(stdout).not.toMatch(/svc2-|lookup 3784|managed|xdp/);
    await view.gatewaySees('down');
  });
});
