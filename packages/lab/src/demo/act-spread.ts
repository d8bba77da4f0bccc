// SPDX-License-Identifier: Apache-2.0
/** Act 3: connections spread as the firewalls score; when fw1 gets busy, new ones shift and established ones stay. */
import { fileURLToPath } from 'node:url';
import { firewallAddresses } from '../firewall-spec.js';
import { startTraffic, type TrafficAgent } from '../traffic.js';
import { waitFor } from '../wait.js';
import { type Act, count, expectThat, ms, percent } from './act.js';
import { echoTcp, openConnections, type Spread } from './connections.js';
import type { Progress } from './narrator.js';
import { comparePlaces, placesByConntrack, placesOf, placesOfFlows } from './places.js';
import type { Stage } from './stage.js';

const total = 1_000;
const messageMs = 2_000;
/** Connections that others open into fw1, and where it answers them. */
const load = { connections: 6_000, port: 7_000 } as const;
/** Four standard deviations of the share of 1,000 connections that are spread at random. */
const tolerance = 0.065;

export const spreadAct: Act = {
  number: 3,
  title: 'Flows spread by score',
  async play(stage, tell) {
    const { detour, lab, signal } = stage;
    const others = startTraffic(lab, 'edge1');
    const first = await tell.step(`${count(total)} connections spread as the scores say`, () =>
      openByScore(stage),
    );
    const { connections: reports } = await first.connections.report();
    const before = placesOf(reports, placesOfFlows(await detour.flows(), 'tcp'));
    await tell.step("fw1's connections rise, as read from its node exporter", (progress) =>
      raiseLoad(stage, others, progress),
    );
    const second = await tell.step('new connections shift', () => openByScore(stage));
    await tell.step('established connections stay', async () => {
      const now = (await first.connections.report()).connections;
      const byGateway = comparePlaces(before, placesOfFlows(await detour.flows(), 'tcp'));
      const byConntrack = comparePlaces(first.places, await placesByConntrack(stage, echoTcp));
      const broken = now.filter((one) => !one.isOpen || one.corrupt).length;
      expectThat(
        byGateway.stayed === total && byConntrack.stayed === total && broken === 0,
        `gateway: ${JSON.stringify(byGateway)}; conntrack: ${JSON.stringify(byConntrack)}; ${broken} broken`,
      );
      const messages = now.reduce((sum, { received }) => sum + received, 0);
      return `0 of ${count(total)} moved, by detour get flows and by both firewalls' conntrack; ${count(messages)} messages came back on them`;
    });
    await tell.during('closing them all', async (progress) => {
      await Promise.all([first, second].map(({ connections }) => connections.close('rst')));
      await others.close();
      await lab.exec('fw1', ['conntrack', '-D', '-p', 'tcp', '--dport', String(load.port)], {
        okCodes: 'any',
      });
      const isLevel = async (): Promise<boolean> => {
        const shares = await detour.shares();
        progress(`fw1's share of new connections is ${percent(shares.get('fw1') ?? 0)}`);
        return Math.abs((shares.get('fw1') ?? 0) - 0.5) < 0.05;
      };
      await waitFor(isLevel, {
        what: 'the scores to be level again',
        timeoutMs: 30_000,
        everyMs: 300,
        signal,
      });
    });
  },
};

/** Opens connections and compares fw1's share of them with the scores before and after (opening them changes scores a little). */
async function openByScore(stage: Stage): Promise<readonly [string, Spread]> {
  const expected = async (): Promise<{ share: number; text: string }> => {
    const scores = await stage.detour.scores();
    const [one, two] = [scores.get('fw1'), scores.get('fw2')];
    expectThat(one !== undefined && two !== undefined, 'a firewall has no score');
    return { share: one / (one + two), text: `${one.toFixed(1)} : ${two.toFixed(1)}` };
  };
  const before = await expected();
  const spread = await openConnections(stage, total, messageMs);
  const after = await expected();
  const share = spread.shares.get('fw1') ?? 0;
  const [low, high] = [Math.min(before.share, after.share), Math.max(before.share, after.share)];
  const text = `fw1 got ${spread.counts.get('fw1') ?? 0}, fw2 ${spread.counts.get('fw2') ?? 0}: ${percent(share)} at fw1, where scores ${before.text} ask for ${percent(before.share)}`;
  expectThat(share > low - tolerance && share < high + tolerance, text);
  return [text, spread];
}

/** Others, not steered by the gateway, open connections into fw1, until new connections are steered accordingly. */
async function raiseLoad(
  { lab, detour, signal }: Stage,
  others: TrafficAgent,
  progress: Progress,
): Promise<string> {
  const at = firewallAddresses(1);
  const before = await detour.scores();
  const main = fileURLToPath(new URL('../../dist/agents/server.js', import.meta.url));
  const config = { http: [], echo: [load.port], workers: 1 };
  const server = lab.spawn('fw1', [process.execPath, main, JSON.stringify(config)], { name: 'service' });
  await waitFor(() => server.log().includes('ready'), { what: 'a service in fw1', signal });
  const { opened, failed } = await others.openTcp({
    count: load.connections,
    localAddresses: [at.gatewayInner],
    remote: { address: at.inner, port: load.port },
    concurrency: 64,
  });
  expectThat(opened === load.connections, `opened ${opened}, failed: ${JSON.stringify(failed)}`);
  const openedMs = performance.now();
  const isSeen = async (): Promise<ReadonlyMap<string, number> | undefined> => {
    const [scores, shares] = [await detour.scores(), await detour.shares()];
    const [one = Number.NaN, two = Number.NaN] = [scores.get('fw1'), scores.get('fw2')];
    progress(`score of fw1 ${one.toFixed(1)}`);
    const isLive = Math.abs((shares.get('fw1') ?? 0) - one / (one + two)) < 0.02;
    return one < 0.6 * (before.get('fw1') ?? 0) && isLive ? scores : undefined;
  };
  const scores = await waitFor(isSeen, {
    what: "fw1's score to fall",
    timeoutMs: 20_000,
    everyMs: 200,
    signal,
  });
  const tookMs = performance.now() - openedMs;
  return `${count(opened)} more; its score fell from ${before.get('fw1')?.toFixed(1)} to ${scores.get('fw1')?.toFixed(1)} and is in the gateway's table ${ms(tookMs)} after the last`;
}
