// SPDX-License-Identifier: Apache-2.0
import { createLab, type Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RouteState, SessionSpec } from './loop-messages.js';
import { enterNamespace } from './namespace.js';
import { RouteEventSocket } from './route-sockets.js';
import { RouteWatch } from './route-watch.js';
import type { RouteEvent } from './route-wire.js';
import { buildWorker, sessionOf } from './testing/gateway-and-node.js';

const routeWorker = new URL('../dist/route-worker.js', import.meta.url);
const V4 = '198.51.100.0/24';
const V6 = '2001:db8:51::/48';
const TABLE = 100;

/** What the watch has told of n1, whose tunnel is vti-n1. */
interface Watched extends AsyncDisposable {
  readonly watch: RouteWatch;
  readonly told: RouteState[];
  until(state: RouteState['state'], why?: string): Promise<void>;
}

describe('routes that a node must advertise', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    const link = (device: string, ours: readonly string[], theirs: readonly string[]) => ({
      a: { ns: 'gw', device, addresses: ours },
      b: { ns: 'n1', device, addresses: theirs },
    });
    lab = await createLab(
      {
        namespaces: { gw: { sysctls: { 'net.ipv6.conf.all.accept_dad': 0 } }, n1: {} },
        links: [
          link('vti-n1', ['169.254.1.1/30', 'fd00:1::1/64'], ['169.254.1.2/30', 'fd00:1::2/64']),
          link('vti-n2', ['169.254.2.1/30', 'fd00:2::1/64'], ['169.254.2.2/30', 'fd00:2::2/64']),
        ],
      },
      { name: 'bfd-routes' },
    );
  }, 60_000);
  afterAll(() => lab?.close());

  const netnsPath = (): string => `/run/netns/${lab.netns('gw')}`;
  const ip = (...commands: string[]) =>
    lab.exec('gw', ['ip', '-batch', '-'], { input: `${commands.join('\n')}\n` });
  const sessions = (...prefixes: string[]): SessionSpec[] => [
    sessionOf({ route: { table: TABLE, prefixes } }),
  ];

  async function startWatch(specs: SessionSpec[]): Promise<Watched> {
    const told: RouteState[] = [];
    const failures: unknown[] = [];
    const watch = await RouteWatch.start(
      routeWorker,
      {
        onState: (id, state) => id === 'n1' && told.push(state),
        onFailure: (error) => failures.push(error),
      },
      { netns: netnsPath() },
    );
    await watch.follow(specs);
    return {
      watch,
      told,
      until: async (state, why = '') => {
        await until(
          () => {
            if (failures.length > 0) throw failures[0];
            const latest = told.at(-1);
            return latest?.state === state && latest.why.includes(why);
          },
          { timeoutMs: 3_000, what: `${state}; told so far: ${JSON.stringify(told)}` },
        );
      },
      [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
    };
  }

  it('knows the state before it says that it follows: no table, then a route, then none', async () => {
    await using watched = await startWatch(sessions(V4));
    expect(watched.told.at(-1)).toEqual({
      state: 'down',
      why: `no route to ${V4} by vti-n1 in table ${TABLE}`,
    });
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('up');
    await using second = await startWatch(sessions(V4));
    expect(second.told.map(({ state }) => new Set([state]))).toContainEqual(new Set(['up']));
    expect(second.told.some(({ state }) => state !== 'up')).toBe(false);
    await ip(`route del ${V4} table ${TABLE}`);
    await watched.until('down', V4);
    await second.until('down', V4);
  });

  it('counts no route by another device, to another prefix or in another table', async () => {
    await using watched = await startWatch(sessions(V4));
    await ip(
      `route add ${V4} via 169.254.2.2 dev vti-n2 table ${TABLE}`,
      `route add 198.51.0.0/16 via 169.254.1.2 dev vti-n1 table ${TABLE}`,
      `route add 198.51.100.0/25 via 169.254.1.2 dev vti-n1 table ${TABLE}`,
      `route add ${V4} via 169.254.1.2 dev vti-n1 table 101`,
    );
    // A route that counts, behind them: so all of them have been seen.
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE} metric 5`);
    await watched.until('up');
    expect(watched.told.map(({ state }) => state)).toEqual(['down', 'down', 'up']);
    await ip(`route del ${V4} dev vti-n1 table ${TABLE} metric 5`);
    await watched.until('down');
    await ip(`route flush table ${TABLE}`, 'route flush table 101');
  });

  it('sees a route replaced by one of another device, and counts one of several next hops', async () => {
    await using watched = await startWatch(sessions(V4));
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('up');
    await ip(`route replace ${V4} via 169.254.2.2 dev vti-n2 table ${TABLE}`);
    await watched.until('down');
    await ip(
      `route replace ${V4} table ${TABLE} nexthop via 169.254.2.2 dev vti-n2 nexthop via 169.254.1.2 dev vti-n1`,
    );
    await watched.until('up');
    await ip(`route flush table ${TABLE}`);
    await watched.until('down');
  });

  it('sees what goes with a next hop object, of which the kernel says nothing about the route', async () => {
    await using watched = await startWatch(sessions(V4));
    for (const compat of [1, 0]) {
      await lab.exec('gw', ['sysctl', '-qw', `net.ipv4.nexthop_compat_mode=${compat}`]);
      const make = ['nexthop add id 7 via 169.254.1.2 dev vti-n1', `route add ${V4} nhid 7 table ${TABLE}`];
      await ip(...make);
      await watched.until('up');
      await ip('nexthop replace id 7 via 169.254.2.2 dev vti-n2');
      await watched.until('down');
      await ip('nexthop replace id 7 via 169.254.1.2 dev vti-n1');
      await watched.until('up');
      await ip('nexthop del id 7');
      await watched.until('down');
    }
    await lab.exec('gw', ['sysctl', '-qw', 'net.ipv4.nexthop_compat_mode=1']);
  });

  it('sees routes go with their device, although IPv4 says no word of that', async () => {
    await using watched = await startWatch(sessions(V4));
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('up');
    await ip('link set vti-n1 down');
    await watched.until('down');
    await ip('link set vti-n1 up', `route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('up');
    // The other end gone from the wire: the route stays, and leads nowhere.
    await lab.exec('n1', ['ip', 'link', 'set', 'vti-n1', 'down']);
    await watched.until('down');
    await lab.exec('n1', ['ip', 'link', 'set', 'vti-n1', 'up']);
    await watched.until('up');
    await ip(`route flush table ${TABLE}`);
  });

  it('wants all prefixes, of both families, and names those that are missing', async () => {
    await using watched = await startWatch(sessions(V4, V6));
    await until(() => watched.told.at(-1)?.why.includes(`${V4}, ${V6}`));
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('down', `no route to ${V6} by`);
    await lab.exec('n1', ['ip', 'link', 'set', 'vti-n1', 'up']);
    await lab.exec('gw', ['ip', '-6', 'route', 'add', V6, 'dev', 'vti-n1', 'table', String(TABLE)]);
    await watched.until('up');
    await lab.exec('gw', ['ip', '-6', 'route', 'del', V6, 'dev', 'vti-n1', 'table', String(TABLE)]);
    await watched.until('down', V6);
    await ip(`route flush table ${TABLE}`);
  });

  it('takes another list of prefixes, and tells nothing of sessions that are gone', async () => {
    await using watched = await startWatch(sessions(V4));
    await ip(`route add ${V4} via 169.254.1.2 dev vti-n1 table ${TABLE}`);
    await watched.until('up');
    await watched.watch.follow(sessions('203.0.113.0/24'));
    expect(watched.told.at(-1)).toMatchObject({
      state: 'down',
      why: expect.stringContaining('203.0.113.0/24'),
    });
    const before = watched.told.length;
    await watched.watch.follow([]);
    await ip(`route flush table ${TABLE}`);
    await watched.watch.follow([]);
    expect(watched.told.length).toBe(before);
  });

  it('hears that the kernel had to drop events as a change of anything, and goes on to hear', async () => {
    const own = `/proc/${process.ppid}/ns/net`;
    enterNamespace(netnsPath());
    const socket = new RouteEventSocket(1); // the least that the kernel gives
    enterNamespace(own);
    try {
      const flood = Array.from(
        { length: 300 },
        (_, i) => `route add 172.16.${i & 255}.${i >> 8}/32 dev vti-n2 table 102`,
      );
      await ip(...flood);
      const heard: string[] = [];
      socket.read(({ kind }) => heard.push(kind));
      expect(heard.filter((kind) => kind === 'anything')).toHaveLength(1);
      expect(heard.length).toBeLessThan(flood.length);
      await ip('route add 172.17.0.1/32 dev vti-n2 table 102');
      const after: RouteEvent[] = [];
      socket.read((event) => after.push(event));
      expect(after).toEqual([{ kind: 'route', table: 102, prefix: '172.17.0.1/32' }]);
      await ip('route flush table 102');
    } finally {
      socket.close();
    }
  });
});
