// SPDX-License-Identifier: Apache-2.0
// What packets through a node measure: an echo through a router with one arm, and a session from arm to arm through one with two.
import type { Lab } from '@detour/lab';
import { until } from '@detour/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { probeRows } from './probe-rows.js';
import {
  bird,
  buildWorker,
  gatewayAndNode,
  sessionOf,
  startEngine,
  type WatchedEngine,
} from './testing/gateway-and-node.js';

const config = `
  interface "gw0" { min rx interval 20 ms; min tx interval 20 ms; multiplier 3; };
  neighbor 169.254.1.1 dev "gw0" local 169.254.1.2;`;
/** So patient that a quarter of the packets may be lost. */
const echo = { everyUs: 10_000, multiplier: 50 };
const timers = { desiredMinTxUs: 10_000, requiredMinRxUs: 10_000, detectMult: 50 };
const SAMPLES = 400;

describe('what packets through a node measure', () => {
  let lab: Lab;
  beforeAll(async () => {
    await buildWorker();
    lab = await gatewayAndNode('bfd-measure', [bird(config)], undefined, [
      {
        a: { ns: 'gw', device: 'vti-b', addresses: ['169.254.2.1/30'] },
        b: { ns: 'n1', device: 'gw1', addresses: ['169.254.2.2/30'] },
      },
    ]);
    for (const device of ['vti-n1', 'vti-b'])
      await lab.exec('gw', [
        ...['sysctl', '-qw', `net.ipv4.conf.${device}.accept_local=1`],
        ...[`net.ipv4.conf.${device}.rp_filter=0`, `net.ipv4.conf.${device}.arp_ignore=1`],
      ]);
    for (const key of ['rp_filter', 'send_redirects'])
      await lab.exec('n1', ['sysctl', '-qw', `net.ipv4.conf.gw1.${key}=0`]);
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(() => nft('add table inet lossy\ndelete table inet lossy\n'));
  const nft = (input: string) => lab.exec('n1', ['nft', '-f', '-'], { input });
  /** Every fourth of these packets is lost, of those that are forwarded. */
  const loseAQuarter = (which: string) =>
    nft(`table inet lossy {
  chain forward {
    type filter hook forward priority -400; policy accept;
    ${which} numgen inc mod 4 0 drop
  }
}
`);

  /** Adds up what is measured until enough is known. */
  async function measured({ engine }: WatchedEngine) {
    await engine.measure(); // what was before
    let sum = { sent: 0, lost: 0 };
    const times: number[] = [];
    await until(
      async () => {
        for (const { sent, lost, rttUs } of probeRows(await engine.measure())) {
          sum = { sent: sum.sent + sent, lost: sum.lost + lost };
          if (rttUs !== undefined) times.push(rttUs);
        }
        return sum.sent >= SAMPLES;
      },
      { timeoutMs: 30_000, everyMs: 100 },
    );
    return { share: sum.lost / sum.sent, shortestUs: Math.min(...times) };
  }

  it('an echo measures what the node loses, and its time', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf({ echo })]);
    await watched.untilHealth('n1', 'up');
    const whole = await measured(watched);
    expect(whole.share).toBe(0);
    expect(whole.shortestUs).toBeGreaterThan(5);
    expect(whole.shortestUs).toBeLessThan(10_000);
    await loseAQuarter('udp dport 3785');
    const lossy = await measured(watched);
    expect(lossy.share).toBeGreaterThan(0.2);
    expect(lossy.share).toBeLessThan(0.3);
    expect(await watched.row('n1')).toMatchObject({ downs: 0 });
  });

  it('from arm to arm both directions measure: what is lost in one is half of the whole', async () => {
    await using watched = await startEngine(lab);
    const ends = {
      a: ['169.254.1.1', '169.254.1.2', 'vti-n1'],
      b: ['169.254.2.1', '169.254.2.2', 'vti-b'],
    } as const;
    const sessions = (['a', 'b'] as const).map((end) => {
      const [local, peer, device] = ends[end];
      const [far] = ends[end === 'a' ? 'b' : 'a'];
      const way = { local, peer, device, hears: far, multihop: { to: far } };
      return sessionOf({ id: `n1/red/${end}`, vrf: 'red', end, timers, ...way });
    });
    watched.engine.setSessions(sessions);
    for (const { id } of sessions) await watched.untilHealth(id, 'up');
    const whole = await measured(watched);
    expect(whole.share).toBe(0);
    expect(whole.shortestUs).toBeGreaterThan(5);
    await loseAQuarter('oifname gw1');
    const lossy = await measured(watched);
    expect(lossy.share).toBeGreaterThan(0.09);
    expect(lossy.share).toBeLessThan(0.16);
  });

  it('a node that is down measures nothing, and what was under way before is not called lost', async () => {
    await using watched = await startEngine(lab);
    watched.engine.setSessions([sessionOf({ echo: { ...echo, multiplier: 5 } })]);
    await watched.untilHealth('n1', 'up');
    await lab.exec('n1', ['sysctl', '-qw', 'net.ipv4.ip_forward=0']);
    await watched.untilHealth('n1', 'down', 'echo lost');
    await lab.exec('n1', ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    expect(await watched.engine.measure()).toEqual([]);
    await watched.untilHealth('n1', 'up');
    expect((await measured(watched)).share).toBe(0);
  });
});
