// SPDX-License-Identifier: Apache-2.0
/**
 * TUN-3: BGP over tunnels decides reachability of a service path. The CGW is the gateway with FRR (zebra, bgpd), SP1 and SP2 are firewalls with FRR of their own, configured as
 * docs/route-over-tunnels.md says; BFD of the firewalls is BIRD's. `far` is a branch behind a VTI, with FRR as well.
 */
import { readFileSync } from 'node:fs';
import type { IntentDocument } from '@detour/intent';
import { type FrrRouter, type LabSpec, parseCounters, startFrr, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import { countCrowdAtNodes, readNodeTallies } from './node-tally.js';

/** Of the lab's sessions: 100 ms, three times (RFC 5880 6.8.4); then one transmit interval and 100 ms. */
const DETECTED_MS = 300 + 100 + 100;
const COUNT = 300;
const FAR = '192.0.2.70';
const CUSTOMER = '198.18.7.1';
const background = ['hop_not_ready', 'arp_fail'];
const prefixOf: Readonly<Record<string, string>> = { fw1: '198.51.100.0/24', fw2: '198.51.101.0/24' };

const page = readFileSync(new URL('../../../../docs/route-over-tunnels.md', import.meta.url), 'utf8');
const [ofGateway = '', ofNode = ''] = [...page.matchAll(/^```frr\n([\s\S]*?)^```$/gm)].map(
  ([, text]) => text,
);
/** The page's node as another one. */
const nodeConfig = (as: number, own: string, gateway: string, prefix: string): string =>
  ofNode
    .replaceAll('65011', String(as))
    .replaceAll('169.254.1.2', own)
    .replaceAll('169.254.1.1', gateway)
    .replaceAll('198.51.100.0/24', prefix);
const moreNeighbours = [
  ['169.254.2.2', 65012],
  ['169.254.70.2', 65070],
] as const;

function intentOf(standard: IntentDocument): IntentDocument {
  const [fast] = standard.healthProfiles ?? [];
  if (fast === undefined) throw new Error('the standard intent has no health profile');
  const branch = {
    name: 'branch',
    kind: 'vti' as const,
    vrf: 'red',
    classify: true,
    addresses: ['169.254.70.1/30'],
    tunnel: { protocol: 'vxlan' as const, remote: FAR, vni: 70 },
  };
  return {
    ...standard,
    gateways: (standard.gateways ?? []).map((row) => ({ ...row, ports: [...(row.ports ?? []), branch] })),
    healthProfiles: Object.entries(prefixOf).map(([name, prefix]) => ({
      ...fast,
      name: `routed-${name}`,
      route: { prefixes: [prefix] },
    })),
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      health: `routed-${node.name}`,
      priority: node.name === 'fw1' ? 200 : 100,
      attributes: {},
    })),
    chains: [{ name: 'inspect', hops: ['firewall'], select: 'priority' }],
  };
}

/** A machine with the customer's address at the other end of a VTI; the same address on the uplink, for when the VTI leads nowhere. */
function withBranch(spec: LabSpec): LabSpec {
  const nft = `table inet tally { counter seen { }; chain input { type filter hook input priority 0; ip daddr ${CUSTOMER} counter name seen drop; }; }`;
  const far = {
    nft,
    vxlans: [
      { name: 'vxlan0', vni: 70, local: FAR, remote: '192.0.2.1', mtu: 1500, addresses: ['169.254.70.2/30'] },
    ],
  };
  return {
    namespaces: { ...spec.namespaces, far, server: { ...spec.namespaces.server, nft } },
    links: [
      ...spec.links,
      {
        a: { ns: 'far', device: 'eth0', addresses: [`${FAR}/24`], txOffload: 'off' },
        b: { ns: 'underlay', device: 'far', bridge: 'br0', txOffload: 'off', xdpPass: true },
        mtu: 1600,
      },
    ],
  };
}

interface NodeView {
  readonly name: string;
  readonly gateways: readonly { readonly health: string; readonly source: string; readonly why: string }[];
}

describe('routing over tunnels', () => {
  let bench: AcceptanceLab;
  const routers = new Map<string, FrrRouter>();
  const router = (ns: string): FrrRouter => {
    const found = routers.get(ns);
    if (found === undefined) throw new Error(`no FRR in ${ns}`);
    return found;
  };
  const view = async (name: string) => {
    const nodes = await bench.stack.cliJson<NodeView[]>(['get', 'nodes']);
    return nodes.find((node) => node.name === name)?.gateways[0];
  };
  const table = async (ns: string, ...which: string[]) =>
    (await bench.lab.exec(ns, ['ip', 'route', 'show', ...which], { okCodes: 'any' })).stdout;
  const advertise = (ns: string, as: number, prefix: string, no = '') =>
    router(ns).configure([`router bgp ${as}`, 'address-family ipv4 unicast', `${no}network ${prefix}`]);

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-routes', {
      firewalls: 2,
      intent: intentOf,
      spec: withBranch,
      awaitUp: [],
    });
    await countCrowdAtNodes(bench);
    for (const ns of ['far', 'server'])
      await bench.lab.exec(ns, ['ip', 'address', 'add', `${CUSTOMER}/32`, 'dev', 'lo']);
    const detour = ['198.18.0.0/16', 'via', '203.0.113.9', 'dev', 'eth2', 'table', '100'];
    await bench.lab.exec('edge1', ['ip', 'route', 'add', ...detour]);
    // What the firewalls know of the clients and servers is what the gateway tells them.
    for (const ns of ['fw1', 'fw2']) await bench.lab.exec(ns, ['ip', 'route', 'del', 'default']);
    await waitFor(async () => (await view('fw1'))?.source === 'bgp', {
      what: 'BFD with fw1',
      timeoutMs: 20_000,
    });
    expect(await view('fw1')).toMatchObject({
      health: 'down',
      source: 'bgp',
      why: `no route to ${prefixOf.fw1} by vti-fw1 in table 100`,
    });
    routers.set('edge1', await startFrr(bench.lab, 'edge1', ofGateway));
    await router('edge1').configure([
      'router bgp 65001',
      ...moreNeighbours.flatMap(([peer, as]) => [
        `neighbor ${peer} remote-as ${as}`,
        `neighbor ${peer} timers 1 3`,
        `neighbor ${peer} timers connect 1`,
      ]),
      'address-family ipv4 unicast',
      ...moreNeighbours.map(([peer]) => `neighbor ${peer} route-map vrf-red in`),
    ]);
    routers.set('fw1', await startFrr(bench.lab, 'fw1', ofNode));
    const second = nodeConfig(65012, '169.254.2.2', '169.254.2.1', prefixOf.fw2 ?? '');
    routers.set('fw2', await startFrr(bench.lab, 'fw2', second));
    const branch = nodeConfig(65070, '169.254.70.2', '169.254.70.1', '198.18.7.0/24');
    routers.set('far', await startFrr(bench.lab, 'far', branch));
    await bench.awaitNodes(['fw1', 'fw2'], true);
  }, 180_000);
  afterAll(() => bench?.[Symbol.asyncDispose]());

  let next = 0;
  /** Flows that nobody knows. */
  const flows = () => {
    next += COUNT;
    return { first: next - COUNT, count: COUNT, proto: 'udp' } as const;
  };
  const [yes, no] = [() => true, () => false];
  /** Both firewalls up, by their routes: also after a first try that ended in the middle. */
  const bothUp = async (): Promise<void> => {
    for (const [ns, as] of [
      ['fw1', 65011],
      ['fw2', 65012],
    ] as const)
      await waitFor(() => advertise(ns, as, prefixOf[ns] ?? '').then(yes, no), { what: `bgpd in ${ns}` }); // it may just have been started
    await bench.awaitNodes(['fw1', 'fw2'], true);
    const learnt = async () =>
      /via 169\.254\.1\.1 dev vxlan0 proto bgp/.test(await table('fw1', '203.0.113.0/24'));
    await waitFor(learnt, { what: 'the gateway’s prefix in fw1', timeoutMs: 20_000 });
  };

  it('TUN-3 the CGW’s prefixes are in SP1’s table by the tunnel; SP1 withdraws its own, its session or its tunnel dies: unusable within the detection time, onFailure; back again, used again', async () => {
    const { client } = bench.crowd;
    await bothUp();
    const first = flows();
    const start = await readNodeTallies(bench);
    for (const prefix of ['10.1.0.0/16', '203.0.113.0/24'])
      expect(await table('fw1', prefix)).toMatch(/via 169\.254\.1\.1 dev vxlan0 proto bgp/);
    expect(await table('edge1', 'table', '100')).toMatch(
      /198\.51\.100\.0\/24 .*via 169\.254\.1\.2 dev vti-fw1 proto bgp/,
    );
    expect(await view('fw1')).toMatchObject({ health: 'up', source: 'bfd' });
    const calm = await openBalance(bench, { background });
    expect(await client.open(first)).toMatchObject({ answered: COUNT });
    expect(await calm.settle()).toMatchObject({ dropped: {}, hops: { [HOPS_THROUGH_ONE_NODE]: 2 * COUNT } });
    const before = await readNodeTallies(bench);
    const toServer = (ns: string) => (before[ns]?.toServer ?? 0) - (start[ns]?.toServer ?? 0);
    expect([toServer('fw1'), toServer('fw2')]).toEqual([COUNT, 0]);

    const failures: readonly [
      what: string,
      source: string,
      fail: () => Promise<unknown>,
      mend: () => Promise<unknown>,
    ][] = [
      [
        'withdrawn',
        'bgp',
        () => advertise('fw1', 65011, prefixOf.fw1 ?? '', 'no '),
        () => advertise('fw1', 65011, prefixOf.fw1 ?? ''),
      ],
      ['session', 'bgp', () => router('fw1').killBgpd(), async () => router('fw1').startBgpd()],
      ['tunnel', 'bfd', () => bench.firewall('fw1').silence(), () => bench.firewall('fw1').restore()],
    ];
    for (const [what, source, fail, mend] of failures) {
      const known = flows();
      expect(await client.open(known)).toMatchObject({ answered: COUNT });
      const before = await readNodeTallies(bench);
      const failing = await openBalance(bench, { background });
      await client.stream(known, 1_000);
      try {
        await fail();
        await bench.awaitNodes(['fw1'], false);
        expect(await client.open(flows())).toMatchObject({ answered: COUNT });
        expect([what, (await view('fw1'))?.health, (await view('fw1'))?.source]).toEqual([
          what,
          'down',
          source,
        ]);
        await client.stop();
        expect((await client.report()).maxGapMs, what).toBeLessThan(DETECTED_MS);
        expect(await client.ask({ ...known, window: COUNT })).toMatchObject({ answered: COUNT });
        const books = await failing.settle();
        expect([what, books]).toMatchObject([what, { dropped: {}, bypassed: 0, corrupt: 0, duplicated: 0 }]);
        const after = await readNodeTallies(bench);
        const standby = (after.fw2?.toServer ?? 0) - (before.fw2?.toServer ?? 0);
        expect(standby, what).toBeGreaterThanOrEqual(2 * COUNT);
      } finally {
        await client.stop();
        await mend();
      }
      await bothUp();
      const used = await readNodeTallies(bench);
      expect(await client.open(flows())).toMatchObject({ answered: COUNT });
      expect((await readNodeTallies(bench)).fw1?.toServer, what).toBe((used.fw1?.toServer ?? 0) + COUNT);
    }

    // No standby any more: onFailure (drop) applies, and every packet is accounted for.
    for (const [ns, as] of [
      ['fw1', 65011],
      ['fw2', 65012],
    ] as const)
      await advertise(ns, as, prefixOf[ns] ?? '', 'no ');
    await bench.awaitNodes(['fw1', 'fw2'], false);
    const none = await openBalance(bench, { background });
    const ask = (range: ReturnType<typeof flows>) => client.ask({ ...range, window: COUNT, giveUpMs: 700 });
    expect([(await ask(first)).answered, (await ask(flows())).answered]).toEqual([0, 0]);
    expect(await none.settle()).toMatchObject({
      delivered: 0,
      dropped: { node_down: 2 * COUNT },
      bypassed: 0,
    });
    await bothUp();
    expect(await client.ask({ ...first, window: COUNT })).toMatchObject({ answered: COUNT });
  }, 180_000);

  it('TUN-3 a route that a branch advertises over its VTI leads into the VTI; withdrawn, the same flow takes the other way', async () => {
    const seen = async (ns: string): Promise<number> => {
      const list = ['nft', '-j', 'list', 'counters', 'table', 'inet', 'tally'];
      return parseCounters((await bench.lab.exec(ns, list)).stdout).seen?.packets ?? 0;
    };
    const send = `const s = require('dgram').createSocket('udp4'); s.bind(40007, () => setInterval(() => s.send('x', 9, '${CUSTOMER}'), 5))`;
    const way = async (): Promise<string> => table('edge1', 'table', '100');
    /** All packets of the flow go here from some time on, and none there. */
    const arriveOnly = async (here: string, there: string) => {
      await waitFor(
        async () => {
          const before = [await seen(here), await seen(there)] as const;
          await new Promise((resolve) => setTimeout(resolve, 200));
          return (await seen(here)) > before[0] + 10 && (await seen(there)) === before[1];
        },
        { what: `the flow at ${here} alone` },
      );
    };
    await waitFor(async () => (await way()).includes('dev vti-branch proto bgp'), {
      what: 'the route of the branch',
      timeoutMs: 20_000,
    });
    const sender = bench.lab.spawn('client', [process.execPath, '-e', send], { name: 'sender' });
    await arriveOnly('far', 'server');
    expect(await seen('server')).toBe(0);
    await advertise('far', 65070, '198.18.7.0/24', 'no ');
    await arriveOnly('server', 'far');
    expect(await way()).not.toContain('dev vti-branch proto bgp');
    await advertise('far', 65070, '198.18.7.0/24');
    await arriveOnly('far', 'server');
    await sender.stop();
  });

  it('the intent of docs/route-over-tunnels.md as it stands: its node is up while it advertises', async () => {
    const [, yaml = ''] = /^```yaml\n([\s\S]*?)^```$/m.exec(page) ?? [];
    const applied = await bench.stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], {
      input: yaml,
    });
    expect(applied).toMatchObject({ code: 0, stderr: '' });
    // No chain of the page leads to it: there is no row of a policy to look at.
    const become = (health: string) =>
      waitFor(async () => (await view('fw1'))?.health === health, {
        what: `fw1 of the page to be ${health}`,
        timeoutMs: 20_000,
        everyMs: 100,
      });
    await advertise('fw1', 65011, prefixOf.fw1 ?? '');
    await become('up');
    await advertise('fw1', 65011, prefixOf.fw1 ?? '', 'no ');
    await become('down');
    expect(await view('fw1')).toMatchObject({ source: 'bgp' });
    await advertise('fw1', 65011, prefixOf.fw1 ?? '');
    await become('up');
  });
});
