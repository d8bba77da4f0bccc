// SPDX-License-Identifier: Apache-2.0
/**
 * steer.refreshing: packets/s through the gateway and a node, 100,000 established flows, while tunnel-gw sweeps them and refreshes their records
 * in Redis as often as it ever does, beside the same with tunnel-gw stopped (SIGSTOP: the datapath goes on alone). The sender and all packet
 * work it causes have one CPU, everything else the other: what would be seen otherwise is who shares a CPU.
 */
import { availableParallelism } from 'node:os';
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { run, standardIntent } from '@detour/lab';
import { askRedis } from '@detour/testkit';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { ratioFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { openWorld, type World } from './world.js';

const FLOWS = 100_000;
const OPEN_WINDOW = 256;
const OPEN_TIMEOUT_MS = 30_000;
/** More than can be sent. */
const PPS = 10_000_000;
/** At least one sweep, which refreshes every flow: the next begins after ten times what the last one took, a second or two with this CPU. */
const MEASURE_MS = 28_000;
const SWEEP_EVERY_MS = 500;
/** So short that each sweep refreshes, and long enough that no flow is idle for it. */
const IDLE = '40s';

export const refreshing: Benchmark = {
  name: 'refreshing',
  what: 'packets/s while records are refreshed in Redis, beside those with tunnel-gw stopped',
  run: async (context) => {
    context.progress.step('refreshing: raising the lab and the stack');
    await using world = await openWorld({
      ...{ name: 'bench-refreshing', reflectingNode: true },
      env: { DETOUR_SWEEP_EVERY: `${SWEEP_EVERY_MS}ms` },
    });
    await world.apply(shortLived(standardIntent({ firewalls: 1 })));
    await world.nodesUp(1);
    await keepApart(world);
    await world.client.ask({
      ...{
        op: 'open',
        first: 0,
        count: FLOWS,
        window: OPEN_WINDOW,
        answering: true,
        timeoutMs: OPEN_TIMEOUT_MS,
      },
    });
    return [await measure(context, world)];
  },
};

function shortLived(intent: IntentDocument): IntentDocument {
  return {
    ...intent,
    chains: (intent.chains ?? []).map((chain) => ({
      ...chain,
      idleTimeout: { ...chain.idleTimeout, udp: IDLE },
    })),
  };
}

/** The client on the last CPU, the services on the others. */
async function keepApart({ stack, client }: World): Promise<void> {
  const last = availableParallelism() - 1;
  const keep = (pid: number, cpus: string): Promise<unknown> =>
    run(['taskset', '--all-tasks', '--cpu-list', '--pid', cpus, String(pid)]);
  await keep(client.pid, String(last));
  for (const id of [...stack.ids, 'redis', 'nats'])
    await keep(stack.process(id).pid, last === 1 ? '0' : `0-${last - 1}`);
}

async function measure(context: BenchContext, world: World): Promise<Figure> {
  const refreshes: number[] = [];
  const rate = async (): Promise<number> => {
    await world.client.ask({ op: 'clear', answering: false });
    const { arrived, seconds } = await world.client.ask({
      ...{ op: 'pace', first: 0, count: FLOWS, pps: PPS, ms: MEASURE_MS },
    });
    return arrived / seconds;
  };
  const samples = await measureRounds(context, 'refreshing', {
    refreshed: async () => {
      const before = await expires(world);
      const measured = await rate();
      refreshes.push(((await expires(world)) - before) / (MEASURE_MS / 1_000));
      return measured;
    },
    alone: async () => {
      world.stack.pause('tunnel-gw');
      try {
        return await rate();
      } finally {
        world.stack.resume('tunnel-gw');
      }
    },
  });
  const least = Math.min(...refreshes);
  if (least === 0)
    throw new Fault(
      'timeout',
      `no record was refreshed within ${MEASURE_MS} ms: the ratio would say nothing`,
    );
  return ratioFigure({
    name: 'steer.refreshing[100k]',
    unit: '/s',
    values: samples.of('refreshed'),
    baselines: samples.of('alone'),
    goal: { of: 'ratio', atLeast: 0.95 },
    detail: { 'refreshes/s': Math.round(least) },
  });
}

/** EXPIRE commands that Redis has answered. */
async function expires({ stack }: World): Promise<number> {
  const text = await askRedis(stack.redisUrl, 'INFO', 'commandstats');
  return Number(/cmdstat_expire:calls=(\d+)/.exec(text)?.[1] ?? 0);
}
