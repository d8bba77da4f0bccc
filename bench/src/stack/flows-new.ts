// SPDX-License-Identifier: Apache-2.0
/**
 * flows.new: new flows set up end to end per second, each by a question to the controllers: a packet of a flow that nobody knows is held,
 * classified, given a path and a pin in Redis, recorded, put back, goes through a node and arrives at the server. The node is a program that
 * sends packets back: a firewall's own work would run on the gateway's CPUs here.
 *
 * The client keeps a number of flows under way, so that the rate is that of the slowest part and nothing is lost by being offered too much.
 */

import { processSeconds } from '../cpu.js';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { summarise } from '../statistics.js';
import { openWorld, type World } from './world.js';

const FLOWS = 20_000;
/** Flows under way at once: the one with the best rate of those at which the controllers answer in time is taken. */
const WINDOWS = [32, 64, 128, 256, 512] as const;
const CALIBRATION_FLOWS = 5_000;
const IN_TIME = 0.99;
const WARM_FLOWS = 5_000;
const TIMEOUT_MS = 20_000;

export const flowsNew: Benchmark = {
  name: 'flows',
  what: 'new flows per second, end to end, each decided by a question to the controllers',
  run: async (context) => {
    context.progress.step('flows.new: raising the lab and the stack');
    await using world = await openWorld({ name: 'bench-flows', reflectingNode: true });
    await world.nodesUp(1);
    return measureFlows(context, world);
  },
};

interface Sample {
  readonly rate: number;
  readonly lost: number;
  readonly byControllers: number;
  readonly cpu: Readonly<Record<string, number>>;
}

async function measureFlows(context: BenchContext, world: World): Promise<Figure[]> {
  let first = 0;
  const openFlows = async (count: number, window: number): Promise<Sample> => {
    const ids = world.stack.ids;
    const cpuBefore = ids.map((id) => processSeconds(world.stack.process(id).pid));
    const before = await decisions(world);
    const began = performance.now();
    const reply = await world.client.ask({
      op: 'open',
      first,
      count,
      window,
      answering: false,
      timeoutMs: TIMEOUT_MS,
    });
    const seconds = (performance.now() - began) / 1000;
    first += count;
    const after = await decisions(world);
    const cpu = ids.map((id, i) => [
      id,
      (processSeconds(world.stack.process(id).pid) - (cpuBefore[i] ?? 0)) / seconds,
    ]);
    return {
      rate: reply.arrived / reply.seconds,
      lost: reply.sent - reply.arrived,
      byControllers: (after.controller - before.controller) / count,
      cpu: Object.fromEntries(cpu),
    };
  };
  await openFlows(1, 1); // neighbours are resolved with it
  await openFlows(WARM_FLOWS, WINDOWS[2]);
  let best = { window: WINDOWS[0] as number, rate: 0 };
  for (const window of WINDOWS) {
    context.progress.step(`flows.new: ${window} flows under way`);
    const { rate, byControllers } = await openFlows(CALIBRATION_FLOWS, window);
    if (byControllers >= IN_TIME && rate > best.rate) best = { window, rate };
  }
  const samples: Sample[] = [];
  for (let round = 1; round <= context.rounds; round++) {
    context.signal.throwIfAborted();
    context.progress.step(`flows.new: round ${round} of ${context.rounds}`);
    samples.push(await openFlows(FLOWS, best.window));
  }
  const median = (pick: (sample: Sample) => number): number =>
    Number(summarise(samples.map(pick)).median.toFixed(3));
  const rates = valueFigure({
    name: 'flows.new',
    unit: '/s',
    values: samples.map(({ rate }) => rate),
    goal: { of: 'value', atLeast: 10_000 },
    detail: {
      underWay: best.window,
      lost: median(({ lost }) => lost),
      decidedByControllers: median(({ byControllers }) => byControllers),
      ...Object.fromEntries(world.stack.ids.map((id) => [`cpu ${id}`, median(({ cpu }) => cpu[id] ?? 0)])),
    },
  });
  const busy = valueFigure({
    name: 'flows.cpu[10k]',
    unit: 'CPUs',
    values: samples.map(({ rate, cpu }) => ((cpu['tunnel-gw'] ?? 0) / rate) * 10_000),
  });
  return [rates, busy];
}

async function decisions(world: World): Promise<{ controller: number; alone: number }> {
  const metrics = await world.stack.metrics('tunnel-gw');
  const by = (who: string): number =>
    Number(
      metrics.match(
        new RegExp(`^detour_decisions(?:_total)?\\{[^}]*by="${who}"[^}]*\\} ([0-9.e+]+)`, 'm'),
      )?.[1] ?? Number.NaN,
    );
  return { controller: by('controller'), alone: by('last-tables') };
}
