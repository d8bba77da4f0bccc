// SPDX-License-Identifier: Apache-2.0
/**
 * takeover: how long another gateway takes to serve the flows of a dead one: from the first packet that it gets of any of them until a packet
 * of each has arrived at the server. Two gateways between routers; the flows begin at one, which is killed with all that runs on it; the other
 * has never seen them. Their packets come as fast as they are served.
 */
import { type BpfObject, openObject } from '@detour/bpf';
import { Fault } from '@detour/core';
import {
  createLab,
  killGateway,
  type Lab,
  reviveGateway,
  type Stack,
  startGatewayRouters,
  startStack,
  twoGateways,
  twoGatewaysIntent,
  twoGatewaysLab,
  waitFor,
} from '@detour/lab';
import { askRedis } from '@detour/testkit';
import { type Agent, startAgent } from '../agent.js';
import { buildBenchObject } from '../bpf-objects.js';
import { processSeconds } from '../cpu.js';
import { favour } from '../favour.js';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { summarise } from '../statistics.js';
import type { ClientReply, ClientRequest } from './client-protocol.js';
import { ABI_PIN, stackPlaces } from './places.js';
import { applyDocument, awaitNodes, clientsRoute, placeEnds } from './world.js';

const SIZES = [
  { name: '1k', flows: 1_000 },
  { name: '10k', flows: 10_000 },
  { name: '100k', flows: 100_000, goalMs: 2_000 },
] as const;
/** Flows whose packet is on its way at once. */
const WINDOW = 1_024;
const OPEN_WINDOW = 128;
const TIMEOUT_MS = 60_000;
const bfd = { intervalMs: 100, multiplier: 5 } as const;

interface Gateways extends AsyncDisposable {
  readonly stack: Stack;
  readonly client: Agent<ClientRequest, ClientReply>;
  /** From here on all flows go through the gateway at this place; the other one is dead. */
  leaveOnly(place: 0 | 1): Promise<void>;
  /** Both serve, and the routers send to this one alone. */
  prefer(place: 0 | 1): Promise<void>;
}

export const takeover: Benchmark = {
  name: 'takeover',
  what: 'until another gateway serves all flows of a dead one, from the first packet that it gets',
  run: async (context) => {
    context.progress.step('takeover: raising two gateways');
    await using gateways = await openGateways();
    const figures: Figure[] = [];
    let first = 0;
    for (const size of SIZES) {
      if (!context.wants(`takeover[${size.name}]`)) continue;
      const samples: Sample[] = [];
      for (let round = 1; round <= context.rounds; round++) {
        context.signal.throwIfAborted();
        context.progress.step(`takeover: ${size.name} flows, round ${round} of ${context.rounds}`);
        samples.push(await takeOver(context, gateways, { first, count: size.flows }));
        first += size.flows;
      }
      figures.push(figureOf(size, samples));
    }
    return figures;
  },
};

interface Sample {
  readonly ms: number;
  readonly by: Readonly<Record<string, number>>;
  readonly cpuSeconds: number;
}

async function takeOver(
  context: BenchContext,
  { stack, client, leaveOnly, prefer }: Gateways,
  flows: { readonly first: number; readonly count: number },
): Promise<Sample> {
  await prefer(0);
  const open = async (window: number): Promise<ClientReply> => {
    const reply = await client.ask({ op: 'open', ...flows, window, answering: false, timeoutMs: TIMEOUT_MS });
    if (reply.arrived < flows.count)
      throw new Fault('timeout', `a packet of ${reply.arrived} of ${flows.count} flows arrived in time`);
    return reply;
  };
  await open(OPEN_WINDOW);
  await waitFor(async () => (await recorded(stack)) >= flows.first + flows.count, {
    ...{ what: `${flows.first + flows.count} flows in Redis`, timeoutMs: 30_000, everyMs: 200 },
  });
  await leaveOnly(1);
  context.signal.throwIfAborted();
  const { pid } = stack.process('tunnel-gw@edge2');
  const [before, cpu] = [await decisions(stack), processSeconds(pid)];
  const { seconds } = await open(WINDOW);
  const after = await decisions(stack);
  const by = Object.fromEntries([...after].map(([who, count]) => [who, count - (before.get(who) ?? 0)]));
  return { ms: seconds * 1_000, by, cpuSeconds: processSeconds(pid) - cpu };
}

function figureOf(size: (typeof SIZES)[number], samples: readonly Sample[]): Figure {
  const median = (pick: (sample: Sample) => number): number =>
    Number(summarise(samples.map(pick)).median.toFixed(2));
  const deciders = Object.keys(samples[0]?.by ?? {});
  return valueFigure({
    name: `takeover[${size.name}]`,
    unit: 'ms',
    values: samples.map(({ ms }) => ms),
    ...('goalMs' in size && { goal: { of: 'value', atMost: size.goalMs } }),
    detail: {
      'CPU s of tunnel-gw': median(({ cpuSeconds }) => cpuSeconds),
      ...Object.fromEntries(deciders.map((who) => [`decided by ${who}`, median(({ by }) => by[who] ?? 0)])),
    },
  });
}

/** Keys in Redis. */
async function recorded(stack: Stack): Promise<number> {
  return Number(await askRedis(stack.redisUrl, 'DBSIZE'));
}

/** Of the gateway that takes over, by who decided. */
async function decisions(stack: Stack): Promise<Map<string, number>> {
  const metrics = await stack.metrics('tunnel-gw@edge2');
  const rows = metrics.matchAll(/^detour_decisions(?:_total)?\{[^}]*by="([^"]+)"[^}]*\} ([0-9.e+]+)/gm);
  return new Map([...rows].map(([, who = '', count]) => [who, Number(count)]));
}

async function openGateways(): Promise<Gateways> {
  const ends = openObject(await buildBenchObject('server'));
  const lab = await createLab(twoGatewaysLab({ firewalls: 1, bfd }), { name: 'bench-takeover' });
  const open: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
    ends.close();
  };
  try {
    const client = await placeClient(lab, ends);
    const routers = await startGatewayRouters(lab);
    const stack = await startStack(lab, { gateways: twoGateways, logLevel: 'warn' });
    open.push(stack);
    for (const id of stack.ids) favour(stack.process(id).pid);
    favour(process.pid);
    await applyDocument(lab, stack, twoGatewaysIntent({ firewalls: 1, bfd }));
    const serving = (): Promise<void> =>
      Promise.all(PROCESSES.map((id) => awaitNodes(stack, 1, id))).then(() => {});
    await serving();
    const spread = (over: readonly string[]): Promise<unknown> =>
      waitFor(async () => (await routers.spreadOver('inside')).sort().join() === over.join(), {
        ...{ what: `the clients' router to use ${over}`, timeoutMs: 30_000, everyMs: 20 },
      });
    const devices = async (place: 0 | 1, state: 'up' | 'down'): Promise<void> => {
      for (const device of ['eth1', 'eth2'])
        await lab.exec(nameOf(place), ['ip', 'link', 'set', 'dev', device, state]);
    };
    let dead: 0 | 1 | null = null;
    return {
      stack,
      client,
      async leaveOnly(place) {
        dead = place === 0 ? 1 : 0;
        await devices(place, 'up');
        await killGateway({ lab, stack, routers }, nameOf(dead));
        await spread([nameOf(place)]);
      },
      async prefer(place) {
        if (dead !== null) {
          const id = PROCESSES[dead];
          await reviveGateway({ lab, stack, routers }, nameOf(dead), () => awaitNodes(stack, 1, id));
          favour(stack.process(id).pid);
          dead = null;
        }
        await devices(place === 0 ? 1 : 0, 'down');
        await spread([nameOf(place)]);
      },
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** tunnel-gw of each gateway in the stack. */
const PROCESSES = ['tunnel-gw', 'tunnel-gw@edge2'] as const;
const nameOf = (place: 0 | 1): string => twoGateways[place]?.name ?? '';

/** The client's flows go to its router, and their addresses are found behind it. */
async function placeClient(lab: Lab, ends: BpfObject): Promise<Agent<ClientRequest, ClientReply>> {
  const places = stackPlaces(lab);
  await placeEnds(lab, ends, places, true);
  await lab.exec('rin', clientsRoute(places.clientAddress, 'eth0', 'main'));
  for (const [place, { ns }] of twoGateways.entries())
    await lab.exec(ns, clientsRoute(`10.0.1${place}.2`, 'eth1', ABI_PIN.table));
  const { stdout } = await lab.exec('rin', ['ip', '-j', 'link', 'show', 'dev', 'eth0']);
  const [{ address }] = JSON.parse(stdout) as [{ readonly address: string }];
  return startAgent<ClientRequest, ClientReply>(lab, {
    ...{ ns: 'client', name: 'bench-client', main: 'stack/client-process.js' },
    args: ['eth0', address, places.endsPin],
  });
}
