// SPDX-License-Identifier: Apache-2.0
/**
 * failover: how long flows are without service when their node falls silent: the longest silence at the server, at 10,000 packets/s, while
 * one of two firewalls is cut off (links stay up), beside the detection time of its BFD session (RFC 5880 6.8.4).
 *
 * failover.memory[flow] is what tunnel-gw's resident memory grows by for each of 100,000 flows, from none.
 *
 * All flows are on one node before each cut: a node stays cut off until each flow has sent a packet and so moved to the other, where it stays
 * (a flow is moved by its next packet). The first cut of a size gathers the flows and is not measured.
 */
import { readFileSync } from 'node:fs';
import { Fault } from '@detour/core';
import type { BfdTiming } from '@detour/lab';
import { standardIntent } from '@detour/lab';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { openWorld, type World } from './world.js';

const TIMING: Required<BfdTiming> = { intervalMs: 50, multiplier: 3 };
const DETECTION_MS = TIMING.intervalMs * TIMING.multiplier;
const ALLOWED_MS = 20;
const PPS = 10_000;
const SIZES = [
  { name: '1', flows: 1 },
  { name: '1k', flows: 1_000 },
  { name: '100k', flows: 100_000 },
] as const;
const MOST_FLOWS = Math.max(...SIZES.map(({ flows }) => flows));
const WINDOW = 256;
const BEFORE_MS = 400;
const AFTER_MS = 1_500;
const OPEN_TIMEOUT_MS = 30_000;
const OPEN_LOSS = 0.001;
/** Packets/s while the rest of the flows is moved. */
const GATHER_PPS = 25_000;
const GATHER_MARGIN_MS = 500;

export const failover: Benchmark = {
  name: 'failover',
  what: 'last packet before to first packet after, a node falling silent, beside its detection time',
  run: async (context) => {
    context.progress.step('failover: raising the lab and the stack');
    await using world = await openWorld({ name: 'bench-failover', bfd: TIMING });
    await world.apply(standardIntent({ firewalls: 2, bfd: TIMING }));
    await world.nodesUp(2);
    const figures: Figure[] = [];
    const resident = residentBytes(world);
    let opened = 0;
    let cut: 1 | 2 = 1;
    for (const { name, flows } of SIZES) {
      context.progress.step(`failover: setting up ${flows} flows`);
      const lostOpenings = await openFlows(world, opened, flows - opened);
      opened = flows;
      if (flows === MOST_FLOWS) figures.push(memoryFigure(residentBytes(world) - resident));
      await cutOff(world, cut, opened); // gathers all flows on the other node
      cut = other(cut);
      figures.push(await measureSize(context, world, { name, flows, firstCut: cut, lostOpenings }));
      cut = context.rounds % 2 === 0 ? cut : other(cut);
    }
    return figures;
  },
};

/** Of tunnel-gw's process; pages of the datapath's maps that it has touched are among them. */
function residentBytes(world: World): number {
  const status = readFileSync(`/proc/${world.stack.process('tunnel-gw').pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

function memoryFigure(added: number): Figure {
  return valueFigure({ name: 'failover.memory[flow]', unit: 'B', values: [Math.round(added / MOST_FLOWS)] });
}

function other(firewall: 1 | 2): 1 | 2 {
  return firewall === 1 ? 2 : 1;
}

/**
 * Sets flows up in both directions, so that their records are those of established flows. Each has one packet for that; returns how many lost it, and so
 * begin with their first packet of what is measured.
 */
async function openFlows(world: World, first: number, count: number): Promise<number> {
  if (count === 0) return 0;
  const { arrived } = await world.client.ask({
    op: 'open',
    first,
    count,
    window: WINDOW,
    answering: true,
    timeoutMs: OPEN_TIMEOUT_MS,
  });
  if (arrived < count * (1 - OPEN_LOSS))
    throw new Fault('timeout', `${arrived} of ${count} flows were set up within ${OPEN_TIMEOUT_MS} ms`);
  return count - arrived;
}

async function measureSize(
  context: BenchContext,
  world: World,
  size: {
    readonly name: string;
    readonly flows: number;
    readonly firstCut: 1 | 2;
    readonly lostOpenings: number;
  },
): Promise<Figure> {
  const outages: number[] = [];
  const lost: number[] = [];
  let cut = size.firstCut;
  for (let round = 1; round <= context.rounds; round++) {
    context.signal.throwIfAborted();
    context.progress.step(`failover: ${size.name} flows, round ${round} of ${context.rounds}`);
    const outage = await cutOff(world, cut, size.flows);
    outages.push(outage.silenceMs);
    lost.push(outage.lost);
    cut = other(cut);
  }
  return valueFigure({
    name: `failover[${size.name}]`,
    unit: 'ms',
    values: outages,
    goal: { of: 'value', atMost: DETECTION_MS + ALLOWED_MS },
    detail: {
      detectionMs: DETECTION_MS,
      worstMs: Number(Math.max(...outages).toFixed(1)),
      bestMs: Number(Math.min(...outages).toFixed(1)),
      packetsLostWorst: Math.max(...lost),
      pps: PPS,
      lostOpenings: size.lostOpenings,
    },
  });
}

/** Traffic runs, a firewall is cut off, traffic goes on; afterwards the firewall is back and up. */
async function cutOff(
  world: World,
  firewall: 1 | 2,
  flows: number,
): Promise<{ silenceMs: number; lost: number }> {
  const node = world.firewall(firewall);
  await world.client.ask({ op: 'clear', answering: false });
  await world.client.ask({ op: 'start', first: 0, count: flows, pps: PPS });
  await pause(BEFORE_MS);
  await node.silence();
  await pause(AFTER_MS);
  const { sent, arrived, longestSilenceMs } = await world.client.ask({ op: 'stop' });
  if (flows > PPS * (AFTER_MS / 2000)) {
    const ms = (flows / GATHER_PPS) * 1000 + GATHER_MARGIN_MS;
    await world.client.ask({ op: 'pace', first: 0, count: flows, pps: GATHER_PPS, ms });
  }
  await node.restore();
  await world.nodesUp(2);
  return { silenceMs: longestSilenceMs, lost: sent - arrived };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
