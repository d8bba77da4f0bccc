// SPDX-License-Identifier: Apache-2.0
/**
 * select.paths: questions about new flows that one path-selector answers per second, each with its pin recorded in Redis, with one and with four
 * gateways asking. The same number of questions is open in all, however many ask.
 */
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import { createLab, type Stack, standardIntent, standardLab, startStack } from '@detour/lab';
import { type Agent, startAgent } from '../agent.js';
import { processSeconds } from '../cpu.js';
import { favour } from '../favour.js';
import type { Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { measureRounds } from '../rounds.js';
import { summarise } from '../statistics.js';
import type { AskReply, AskRequest } from './asker-process.js';

const ADDRESS = '172.30.0.1:7002';
const GATEWAYS = ['edge1', 'edge2', 'edge3', 'edge4'] as const;
const OPEN_QUESTIONS = 512;
const MEASURE_MS = 3_000;
/** Flow numbers that one asker may use in a round. */
const FLOWS_EACH = 1_000_000;
/** The only one of the standard intent. */
const CHAIN = '1';

export const selectPaths: Benchmark = {
  name: 'select',
  what: 'SelectPath answers per second with one and four gateways asking',
  run: async (context) => {
    context.progress.step('select: raising the stack');
    await using lab = await createLab(standardLab(), { name: 'bench-select' });
    await using stack = await startStack(lab, {
      ...{ services: ['path-selector'], logLevel: 'warn' },
      env: () => ({ DETOUR_LISTEN: ADDRESS, DETOUR_REDIS_BUDGET: '1s' }),
    });
    favour(stack.process('path-selector').pid);
    const applied = await stack.cli(['apply', '-f', '-'], { input: JSON.stringify(fourGateways()) });
    if (applied.code !== 0)
      throw new Fault('internal', `detour apply: exit code ${applied.code}: ${applied.stderr}`);
    await stack.ready();
    const askers = await Promise.all(
      GATEWAYS.map((gateway) =>
        startAgent<AskRequest, AskReply>(lab, {
          ...{ ns: 'mgmt', name: `asker-${gateway}`, main: 'stack/asker-process.js' },
          args: [ADDRESS, gateway, CHAIN],
        }),
      ),
    );
    let round = 0;
    const measured = (count: number) => () =>
      askAll(stack, askers.slice(0, count), FLOWS_EACH * count * round++);
    await measured(1)(); // connections and code are warm
    const samples = await measureRounds(context, 'select', { 1: measured(1), 4: measured(4) });
    return [1, 4].map((count) => figureOf(count, samples.of(String(count))));
  },
};

interface Sample {
  readonly rate: number;
  /** CPUs that the path-selector and Redis kept busy. */
  readonly cpu: Readonly<Record<string, number>>;
}

async function askAll(
  stack: Stack,
  askers: readonly Agent<AskRequest, AskReply>[],
  first: number,
): Promise<Sample> {
  const busy = (): number[] => PROCESSES.map((id) => processSeconds(stack.process(id).pid));
  const before = busy();
  const replies = await Promise.all(
    askers.map((asker, i) =>
      asker.ask({ first: first + i * FLOWS_EACH, window: OPEN_QUESTIONS / askers.length, ms: MEASURE_MS }),
    ),
  );
  const seconds = Math.max(...replies.map((reply) => reply.seconds));
  const failed = replies.reduce((sum, reply) => sum + reply.failed, 0);
  if (failed > 0) throw new Fault('unavailable', `${failed} questions had no answer with a path`);
  const used = busy().map((now, i) => (now - (before[i] ?? 0)) / seconds);
  return {
    rate: replies.reduce((sum, reply) => sum + reply.answered, 0) / seconds,
    cpu: Object.fromEntries(PROCESSES.map((id, i) => [id, used[i] ?? 0])),
  };
}
const PROCESSES = ['path-selector', 'redis'] as const;

function figureOf(count: number, samples: readonly Sample[]): Figure {
  return valueFigure({
    name: `select.paths[${count}]`,
    unit: '/s',
    values: samples.map(({ rate }) => rate),
    detail: Object.fromEntries(
      PROCESSES.map((id) => [
        `cpu ${id}`,
        Number(summarise(samples.map(({ cpu }) => cpu[id] ?? 0)).median.toFixed(2)),
      ]),
    ),
  });
}

/** Nobody runs there: what counts is who asks. Nodes without a health profile are up. */
function fourGateways(): IntentDocument {
  const standard = standardIntent();
  const [edge1] = standard.gateways ?? [];
  return {
    ...standard,
    gateways: GATEWAYS.map((name, i) => ({
      ...edge1,
      ...{ name, underlay: { device: 'eth0', address: `192.0.2.${i + 1}` } },
    })),
    nodes: (standard.nodes ?? []).map(({ health: _, ...node }, i) => ({
      ...node,
      attach: {
        ...node.attach,
        gateways: Object.fromEntries(
          GATEWAYS.map((name, place) => {
            const at = (host: number): string => `169.254.${i + 1}.${4 * place + host}`;
            return [name, { local: `${at(1)}/30`, peer: at(2) }];
          }),
        ),
      },
    })) as NonNullable<IntentDocument['nodes']>,
  };
}
