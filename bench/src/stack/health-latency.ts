// SPDX-License-Identifier: Apache-2.0
/**
 * health.latency: from the moment at which bfd knows that a node's state changed to the flip of the gateway's tables, in which it is in force.
 *
 * A session is taken down and up again by an operator's word to bfd, which goes the same way as a detection: bfd → its stream → tunnel-gw →
 * tables. bfd's own time stamp is taken; the flip is seen by who looks at the control word every tenth of a millisecond.
 */
import { HealthState } from '@detour/contracts';
import { Fault } from '@detour/core';
import { standardIntent } from '@detour/lab';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { quantile } from '../statistics.js';
import type { WatcherReply } from './watcher-protocol.js';
import { openWorld, type World } from './world.js';

const CYCLES_PER_ROUND = 5;
const NODE = 'fw2';
const SETTLE_MS = 30;
const CYCLE_TIMEOUT_MS = 10_000;

export const healthLatency: Benchmark = {
  name: 'health',
  what: 'from bfd knowing that a node changed to the tables being flipped',
  run: async (context) => {
    context.progress.step('health: raising the lab and the stack');
    await using world = await openWorld({ name: 'bench-health' });
    const intent = standardIntent({ firewalls: 2 });
    const healthProfiles = intent.healthProfiles?.map((profile) => ({
      ...profile,
      adminDownAction: 'failover' as const,
    }));
    await world.apply({ ...intent, ...(healthProfiles && { healthProfiles }) });
    await world.nodesUp(2);
    return await measureLatency(context, world);
  },
};

async function measureLatency(context: BenchContext, world: World): Promise<Figure[]> {
  const latencies: number[] = [];
  const cycles = context.rounds * CYCLES_PER_ROUND;
  for (let cycle = 1; cycle <= cycles; cycle++) {
    context.signal.throwIfAborted();
    context.progress.step(`health.latency: ${cycle} of ${cycles}`);
    latencies.push(await changeState(world, true), await changeState(world, false));
  }
  const detail = { events: latencies.length, worstMs: Number(Math.max(...latencies).toFixed(2)) };
  return [
    valueFigure({ name: 'health.latency[p50]', unit: 'ms', values: [quantile(latencies, 0.5)], detail }),
    valueFigure({
      name: 'health.latency[p99]',
      unit: 'ms',
      values: [quantile(latencies, 0.99)],
      goal: { of: 'value', atMost: 2 },
      detail,
    }),
  ];
}

/** Milliseconds from bfd's time stamp to the first flip after it. */
async function changeState(world: World, adminDown: boolean): Promise<number> {
  const wanted = adminDown ? HealthState.ADMIN_DOWN : HealthState.UP;
  await world.watcher.ask({ op: 'take' });
  await world.watcher.ask({ op: 'admin', node: NODE, adminDown });
  const noted: WatcherReply = { flips: [], health: [], heads: [] };
  const until = performance.now() + CYCLE_TIMEOUT_MS;
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const more = await world.watcher.ask({ op: 'take' });
    noted.flips.push(...more.flips);
    noted.health.push(...more.health);
    const known = noted.health.find(({ node, state }) => node === NODE && state === wanted);
    const flip = noted.flips.find(({ atNs }) => known !== undefined && BigInt(atNs) >= BigInt(known.atNs));
    if (known !== undefined && flip !== undefined)
      return Number(BigInt(flip.atNs) - BigInt(known.atNs)) / 1e6;
  }
  throw new Fault(
    'timeout',
    `${NODE} was not ${adminDown ? 'admin-down' : 'up'} with a flip within ${CYCLE_TIMEOUT_MS} ms`,
  );
}
