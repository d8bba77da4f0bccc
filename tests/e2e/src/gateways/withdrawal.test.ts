// SPDX-License-Identifier: Apache-2.0
/** Routers leave a gateway that cannot serve any more though its links are up, and no other; connections go on through the same firewalls. */
import { processOf, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
/** Longer than tunnel-gw takes to be back on a busy machine. */
const GRACE_MS = 15_000;
const tunnelGw = processOf('tunnel-gw', 'edge2');

describe('routers leave a gateway that cannot serve', () => {
  let pair: GatewayPair;
  let live: LiveConnections;

  beforeAll(async () => {
    pair = await raiseGatewayPair('withdrawal', {
      env: (service) => (service === 'bfd' ? { DETOUR_ANNOUNCE_GRACE: `${GRACE_MS}ms` } : {}),
    });
    live = await openLiveConnections(pair, CONNECTIONS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  /** Every change of a route at either router since this was called, as ip-monitor(8) writes it. */
  function routeChanges(): () => string {
    const monitors = ['rin', 'rout'].map((ns) => pair.lab.spawn(ns, ['ip', 'monitor', 'route']));
    const before = monitors.map((monitor) => monitor.log().length);
    return () => monitors.map((monitor, i) => monitor.log().slice(before[i])).join('');
  }

  /** How long until both routers use one gateway alone, ms; looked at every few milliseconds. */
  async function msUntilLeft(): Promise<number> {
    const startMs = performance.now();
    await awaitSpread(pair.routers, 1, { everyMs: 5 });
    return performance.now() - startMs;
  }

  const alarmsOf = async (): Promise<string[]> =>
    (await pair.stack.cliJson<{ code: string; source: string }[]>(['get', 'alarms']))
      .filter(({ code }) => code === 'gateway_withdrawn')
      .map(({ source }) => source);

  async function expectAlarms(expected: readonly string[]): Promise<void> {
    await waitFor(async () => JSON.stringify(await alarmsOf()) === JSON.stringify(expected), {
      what: `the gateways that are withdrawn to be ${expected.join() || 'none'}`,
      everyMs: 100,
    });
  }

  it('not one whose tunnel-gw is killed and comes back within its grace', async () => {
    const changes = routeChanges();
    await pair.stack.kill(tunnelGw);
    await live.exchanged(5);
    await pair.stack.start(tunnelGw);
    await waitFor(async () => (await pair.at('edge2').status()).announced === 'yes', {
      what: 'tunnel-gw to be heard by bfd',
      timeoutMs: GRACE_MS,
    });
    await live.exchanged(5);
    expect(changes()).toBe('');
    await live.expectNoneBroken();
  });

  it('one whose tunnel-gw stays away for longer than that, and come back with it', async () => {
    await pair.stack.kill(tunnelGw);
    const leftMs = await msUntilLeft();
    expect(leftMs).toBeGreaterThan(GRACE_MS - 2_000); // it had spoken up to a second before
    await live.exchanged(20);
    await live.expectNoneBroken();
    await expectAlarms(['bfd-edge2']);
    await pair.stack.start(tunnelGw);
    await awaitSpread(pair.routers, 2);
    await live.exchanged(20);
    await live.expectNoneBroken();
    await expectAlarms([]);
  });

  it('at once one whose datapath was taken off a device', async () => {
    pair.stack.pause(tunnelGw); // or it would put it back
    const { pinDir } = await readPins();
    await pair.lab.exec('edge2', ['bpftool', 'link', 'detach', 'pinned', `${pinDir}/links/eth1`]);
    const leftMs = await msUntilLeft();
    expect(leftMs).toBeLessThan(GRACE_MS / 5); // and so for no other reason
    await live.exchanged(20);
    await live.expectNoneBroken();
    pair.stack.resume(tunnelGw);
    await awaitSpread(pair.routers, 2);
    await live.exchanged(20);
    await live.expectNoneBroken();
  });

  it('in less than a second one that falls silent with its links up', async () => {
    const silence =
      'table netdev silence { chain in { type filter hook ingress device edge2 priority 0; policy drop; }; chain out { type filter hook egress device edge2 priority 0; policy drop; }; }';
    for (const ns of ['rin', 'rout']) await pair.lab.exec(ns, ['nft', '-f', '-'], { input: silence });
    const leftMs = await msUntilLeft();
    expect(leftMs).toBeLessThan(1_000);
    await live.exchanged(20);
    await live.expectNoneBroken();
    for (const ns of ['rin', 'rout'])
      await pair.lab.exec(ns, ['nft', 'delete', 'table', 'netdev', 'silence']);
    await awaitSpread(pair.routers, 2);
    await live.exchanged(20);
    await live.expectNoneBroken();
  });

  it('for a moment one whose bfd is killed, and go on without BFD then', async () => {
    const bfd = processOf('bfd', 'edge2');
    await pair.stack.kill(bfd);
    await msUntilLeft(); // and it is taken back within a second: nothing else is wrong with it
    await awaitSpread(pair.routers, 2);
    await live.exchanged(20);
    await live.expectNoneBroken();
    await pair.stack.start(bfd);
    await live.exchanged(20);
    await live.expectNoneBroken();
  });

  async function readPins(): Promise<{ pinDir: string }> {
    const root = `${pair.lab.pinPrefix}edge2`;
    const { stdout } = await pair.lab.exec('edge2', ['sh', '-c', `ls -d ${root}/*/links`]);
    const [links = ''] = stdout.trim().split('\n');
    return { pinDir: links.replace(/\/links$/, '') };
  }
});
