// SPDX-License-Identifier: Apache-2.0
/** Act 4: fw1 stops serving while its links stay up, in two ways; each time traffic goes on through fw2. */
import { setTimeout as delay } from 'node:timers/promises';
import { Fault } from '@detour/core';
import { waitFor } from '../wait.js';
import { type Act, count, expectThat, ms } from './act.js';
import { openConnections, type Spread } from './connections.js';
import type { SessionRow } from './detour.js';
import type { Narrator } from './narrator.js';
import { awaitNode } from './nodes.js';
import { nearEnd, type Places } from './places.js';
import { type Probe, type Probes, startProbes } from './probes.js';
import type { Stage } from './stage.js';
import { type Fates, packetsPerSecond, type Streams, startStreams } from './streams.js';

const tcpConnections = 24;
const messageMs = 100;
const attempts = 4;
/** Many times the detection time. */
const measuringMs = 2_000;

interface Failure {
  /** What happens, as the heading of its lines. */
  readonly what: string;
  stop(stage: Stage): Promise<number>;
  /** What bfd must have seen, and what must not have changed. @throws Fault */
  check(stage: Stage, session: SessionRow): Promise<string>;
}

const silence: Failure = {
  what: 'fw1 falls silent',
  stop: ({ fw1 }) => fw1.silence(),
  async check(_stage, { state, why }) {
    expectThat(state.toLowerCase() !== 'up', 'the BFD session with it is still up');
    return `${why}; no BFD control packets, the session is ${state}`;
  },
};

const noForwarding: Failure = {
  what: 'fw1 only stops forwarding',
  stop: ({ fw1 }) => fw1.stopForwarding(),
  async check({ fw1 }, { state, echoUp, why }) {
    const daemon = (await fw1.bfdPeers()).map((peer) => peer.state).join();
    expectThat(
      state.toLowerCase() === 'up' && daemon === 'up' && !echoUp,
      `session ${state}, its daemon says ${daemon}, echo ${echoUp ? 'up' : 'down'}`,
    );
    return `${why}; the BFD session itself stays up`;
  },
};

export const failoverAct: Act = {
  number: 4,
  title: 'fw1 stops serving while its links stay up',
  async play(stage, tell) {
    await playFailure(stage, tell, silence);
    await tell.step('fw1 is back', async () => {
      const tookMs = await bringBack(stage);
      return `up again ${ms(tookMs)} after it could be`;
    });
    await playFailure(stage, tell, noForwarding);
  },
};

async function playFailure(stage: Stage, tell: Narrator, failure: Failure): Promise<void> {
  const running = await tell.during('starting numbered streams through both firewalls', () => begin(stage));
  const { detectTimeUs, txIntervalUs } = await stage.detour.session('fw1');
  const stoppedMs = await failure.stop(stage);
  const times = { stoppedMs, detectMs: detectTimeUs / 1_000, txMs: txIntervalUs / 1_000 };
  // Nothing else is started meanwhile: on a small machine the demo's own questions would be in the way of what it measures.
  await delay(measuringMs, undefined, { signal: stage.signal });
  const [fates, probes] = await Promise.all([
    running.streams.stop('fw1', running.places),
    running.probes.stop(),
  ]);
  await tell.step(`${failure.what}, which bfd finds out`, async () => {
    const session = await awaitNode(stage, 'fw1', 'down');
    const nodes = new Set((await running.streams.places()).values());
    expectThat([...nodes].join() === 'fw2', `its UDP flows are at ${[...nodes].join(', ')}`);
    return failure.check(stage, session);
  });
  await tell.step('its UDP flows go on through fw2', async () => tellFates(fates, times));
  await tell.step('new TCP connections go on', async () => tellProbes(probes, times));
  await tell.step('established TCP connections', () => tellTcp(stage, running.tcp));
}

interface Running {
  readonly streams: Streams;
  /** Where the streams' flows are. */
  readonly places: Places;
  readonly tcp: Spread;
  readonly probes: Probes;
}

/** Numbered UDP streams, TCP connections and new connections, some of each through either firewall. */
async function begin(stage: Stage): Promise<Running> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const tcp = await openConnections(stage, tcpConnections, messageMs);
    const streams = await startStreams(stage);
    const places = await streams.places();
    const areApart = ['fw1', 'fw2'].every(
      (node) => [...places.values()].includes(node) && tcp.counts.has(node),
    );
    if (areApart) {
      const probes = startProbes(stage.traffic);
      const enough = { what: 'the first new connections', signal: stage.signal };
      await waitFor(() => probes.done().length >= 20, enough);
      return { streams, places, tcp, probes };
    }
    await Promise.all([tcp.connections.close('rst'), streams.stop('fw1', places)]);
  }
  throw new Fault('internal', `in ${attempts} attempts all flows were at one firewall`);
}

interface Times {
  readonly stoppedMs: number;
  readonly detectMs: number;
  readonly txMs: number;
}

/** Longest time without service that is accepted: detection time, one transmit interval, and 100 ms. */
function limitMs({ detectMs, txMs }: Times): number {
  return detectMs + txMs + 100;
}

function tellFates({ there, elsewhere }: Fates, times: Times): string {
  const limit = limitMs(times) + 1_000 / packetsPerSecond;
  const text = `${count(there.lost)} of ${count(there.sent)} packets of ${there.flows} flows lost, ${ms(there.outageMs)} without service (detection time ${ms(times.detectMs)}); ${elsewhere.flows} flows at fw2 lost ${elsewhere.lost} of ${count(elsewhere.sent)}`;
  expectThat(there.lost > 0, `nothing was lost, so fw1 did not stop: ${text}`);
  expectThat(there.outageMs <= limit, `${text}; at most ${ms(limit)} is accepted`);
  expectThat(
    elsewhere.lost + there.duplicated + elsewhere.duplicated === 0,
    `${text}, ${there.duplicated + elsewhere.duplicated} came twice`,
  );
  return text;
}

function tellProbes(all: readonly Probe[], times: Times): string {
  const failed = all.filter((probe) => !probe.isAnswered);
  const lastMs = Math.max(0, ...failed.map(({ begunMs }) => begunMs - times.stoppedMs));
  const text = `${failed.length} of ${all.length} failed, the last of them begun ${ms(lastMs)} after fw1 stopped`;
  expectThat(lastMs <= limitMs(times), `${text}; at most ${ms(limitMs(times))} is accepted`);
  return text;
}

/** fw2's conntrack never saw the connections of fw1 begin, so it lets none of them go on: that is the firewalls' policy. */
async function tellTcp(stage: Stage, { connections, places }: Spread): Promise<string> {
  const before = (await connections.report()).connections;
  const received = new Map(before.map((one) => [nearEnd(one), one.received] as const));
  const goesOn = (one: { localAddress: string; localPort: number; received: number }): boolean =>
    one.received > (received.get(nearEnd(one)) ?? Number.POSITIVE_INFINITY);
  const at = (node: string) => (one: { localAddress: string; localPort: number }) =>
    places.get(nearEnd(one)) === node;
  const allGoOn = async () => {
    const { connections: now } = await connections.report();
    return now.filter(at('fw2')).every(goesOn) ? now : undefined;
  };
  const now = await waitFor(allGoOn, {
    what: 'each connection through fw2 to bring more messages',
    everyMs: 50,
    signal: stage.signal,
  });
  const [inFw1, inFw2] = [now.filter(at('fw1')), now.filter(at('fw2'))];
  const broken = inFw2.filter((one) => !one.isOpen || one.corrupt).length;
  expectThat(broken === 0, `${broken} of ${inFw2.length} through fw2 broke`);
  const gapMs = Math.max(...inFw2.map(({ maxGapMs }) => maxGapMs));
  const ended = inFw1.filter((one) => !goesOn(one)).length;
  await connections.close('rst');
  return `${inFw2.length} through fw2 went on (a message every ${ms(messageMs)}, longest gap ${ms(gapMs)}); ${ended} of ${inFw1.length} in fw1 ended with it: fw2's conntrack does not know them`;
}

/** Ends what was done to fw1. @returns how long it took until it was up, ms. */
export async function bringBack(stage: Stage): Promise<number> {
  await stage.fw1.restore();
  const startMs = performance.now();
  await awaitNode(stage, 'fw1', 'up');
  return performance.now() - startMs;
}
