// SPDX-License-Identifier: Apache-2.0
/**
 * apply.latency: from an intent revision becoming the head to the first packet that is treated by it.
 *
 * A stream of one flow runs at 10,000 packets/s; revisions turn its rule to `drop` and back to its chain. The first packet that arrives again is the
 * first that the new revision treats. The time counts from when the head was seen changed on the gateway's machine, so the start of the
 * `detour` command (a Node process that reads and checks the document) is not in it; apply.command has that and all the rest.
 */
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { standardIntent } from '@detour/lab';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { quantile } from '../statistics.js';
import { openWorld, type World } from './world.js';

const PPS = 10_000;
const CHANGES_PER_ROUND = 4;
const ARRIVE_TIMEOUT_MS = 5_000;
const POLL_MS = 20;

export const applyLatency: Benchmark = {
  name: 'apply',
  what: 'from a revision becoming the head to the first packet treated by it',
  run: async (context) => {
    context.progress.step('apply: raising the lab and the stack');
    await using world = await openWorld({ name: 'bench-apply' });
    await world.nodesUp(1);
    return await measureApply(context, world);
  },
};

async function measureApply(context: BenchContext, world: World): Promise<Figure[]> {
  const steered = standardIntent({ firewalls: 1 });
  const dropped: IntentDocument = {
    ...steered,
    rules: (steered.rules ?? []).map((rule) =>
      rule.name === 'udp-out' ? { ...rule, action: 'drop' as const } : rule,
    ),
  };
  await world.client.ask({ op: 'start', first: 0, count: 1, pps: PPS });
  const latencies: number[] = [];
  const commands: number[] = [];
  const changes = context.rounds * CHANGES_PER_ROUND;
  for (let change = 1; change <= changes; change++) {
    context.signal.throwIfAborted();
    context.progress.step(`apply.latency: ${change} of ${changes}`);
    await world.apply(dropped);
    await world.client.ask({ op: 'clear', answering: false });
    await world.watcher.ask({ op: 'take' });
    const began = process.hrtime.bigint();
    await world.apply(steered);
    const firstNs = await firstArrival(world);
    const { heads } = await world.watcher.ask({ op: 'take' });
    const head = heads.at(-1);
    if (head === undefined) throw new Fault('internal', 'no new head was seen after detour apply');
    latencies.push(Number(firstNs - BigInt(head.atNs)) / 1e6);
    commands.push(Number(firstNs - began) / 1e6);
  }
  await world.client.ask({ op: 'stop' });
  const detail = { changes, worstMs: Number(Math.max(...latencies).toFixed(1)) };
  return [
    valueFigure({ name: 'apply.latency[p50]', unit: 'ms', values: [quantile(latencies, 0.5)], detail }),
    valueFigure({
      name: 'apply.latency[p99]',
      unit: 'ms',
      values: [quantile(latencies, 0.99)],
      goal: { of: 'value', atMost: 50 },
      detail,
    }),
    valueFigure({ name: 'apply.command', unit: 'ms', values: commands }),
  ];
}

async function firstArrival(world: World): Promise<bigint> {
  const until = performance.now() + ARRIVE_TIMEOUT_MS;
  while (performance.now() < until) {
    const { firstNs } = await world.client.ask({ op: 'read' });
    if (firstNs !== '0') return BigInt(firstNs);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Fault(
    'timeout',
    `no packet arrived within ${ARRIVE_TIMEOUT_MS} ms of the revision that lets it pass`,
  );
}
