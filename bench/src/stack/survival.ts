// SPDX-License-Identifier: Apache-2.0
/**
 * survival: of 1,000 TCP connections with numbered, checked payload over two gateways, how many break or change their firewall when a gateway
 * dies with all that runs on it while weights have changed, and again when it comes back. The firewalls drop what they did not see begin.
 */
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import {
  clientAddresses,
  createLab,
  firewallOfEach,
  type GatewayMachines,
  killGateway,
  openFirewall,
  reviveGateway,
  standardAddresses,
  standardPorts,
  startGatewayRouters,
  startStack,
  startTraffic,
  type TcpConnections,
  twoGateways,
  twoGatewaysIntent,
  twoGatewaysLab,
  waitFor,
} from '@detour/lab';
import type { BenchContext, Benchmark, Figure } from '../figure.js';
import { valueFigure } from '../figure.js';
import { applyDocument, awaitNodes } from './world.js';

const CONNECTIONS = 1_000;
const FIREWALLS = 3;
const INTERVAL_MS = 500;
/** More answers on each connection before it counts as going on. */
const ANSWERS = 6;
const ANSWERS_WITHIN_MS = 60_000;
const bfd = { intervalMs: 100, multiplier: 5 } as const;

export const survival: Benchmark = {
  name: 'survival',
  what: 'of 1,000 connections over two gateways, how many break or change firewall when one dies and comes back',
  run: async (context) => {
    context.progress.step('survival: raising two gateways');
    await using lab = await createLab(twoGatewaysLab({ firewalls: FIREWALLS, bfd, clientAddresses: 16 }), {
      name: 'bench-survival',
    });
    const routers = await startGatewayRouters(lab);
    await using stack = await startStack(lab, { gateways: twoGateways, logLevel: 'warn' });
    await using client = startTraffic(lab, 'client');
    const intent = twoGatewaysIntent({ firewalls: FIREWALLS, bfd });
    await applyDocument(lab, stack, intent);
    for (const id of ['tunnel-gw', 'tunnel-gw@edge2']) await awaitNodes(stack, FIREWALLS, id);
    const spread = (count: number): Promise<unknown> =>
      waitFor(async () => (await routers.spreadOver('inside')).length === count, {
        ...{ what: `the clients' router to use ${count} gateways`, timeoutMs: 30_000, everyMs: 50 },
      });
    await spread(2);
    const connections = await client.openTcp({
      ...{ count: CONNECTIONS, localAddresses: clientAddresses(16), intervalMs: INTERVAL_MS },
      remote: { address: standardAddresses.server, port: standardPorts.echo },
    });
    if (connections.opened < CONNECTIONS)
      throw new Fault('timeout', `${connections.opened} of ${CONNECTIONS} connections were opened`);
    const machines: GatewayMachines = { lab, stack, routers };
    return [
      await measure(context, connections, {
        firewalls: () =>
          firewallOfEach(Array.from({ length: FIREWALLS }, (_, i) => openFirewall(lab, `fw${i + 1}`))),
        die: async () => {
          await applyDocument(lab, stack, reweighed(intent));
          await killGateway(machines, 'edge2');
          await spread(1);
        },
        return: async () => {
          await reviveGateway(machines, 'edge2', () => awaitNodes(stack, FIREWALLS, 'tunnel-gw@edge2'));
          await spread(2);
        },
      }),
    ];
  },
};

interface Events {
  readonly firewalls: () => Promise<Map<string, string>>;
  readonly die: () => Promise<void>;
  readonly return: () => Promise<void>;
}

/** New connections would go elsewhere from here on. */
function reweighed(intent: IntentDocument): IntentDocument {
  return { ...intent, nodes: (intent.nodes ?? []).map((node, i) => ({ ...node, capacity: 10 * 10 ** i })) };
}

async function measure(
  { progress, signal }: BenchContext,
  connections: TcpConnections,
  events: Events,
): Promise<Figure> {
  await goOn(connections);
  const before = await events.firewalls();
  for (const what of ['die', 'return'] as const) {
    signal.throwIfAborted();
    progress.step(`survival: ${what}`);
    await events[what]();
    await goOn(connections);
  }
  const now = await events.firewalls();
  const { connections: rows } = await connections.report();
  const broken = rows.filter(({ isOpen, corrupt }) => !isOpen || corrupt).length;
  const changed = [...before].filter(([flow, firewall]) => now.get(flow) !== firewall).length;
  return valueFigure({
    name: 'survival[1k]',
    unit: 'of 1,000',
    values: [CONNECTIONS - before.size + Math.max(broken, changed)],
    goal: { of: 'value', atMost: 0 },
    detail: {
      broken,
      changed,
      longestPauseMs: Math.round(Math.max(...rows.map(({ maxGapMs }) => maxGapMs))),
    },
  });
}

/** Each connection gets its answers; one that does not is seen in the result. */
async function goOn(connections: TcpConnections): Promise<void> {
  const received = async () => (await connections.report()).connections.map((row) => row.received);
  const before = await received();
  await waitFor(async () => (await received()).every((now, i) => now >= (before[i] ?? 0) + ANSWERS), {
    ...{ what: 'answers on each connection', timeoutMs: ANSWERS_WITHIN_MS, everyMs: 200 },
  }).catch(() => undefined);
}
