// SPDX-License-Identifier: Apache-2.0
/** The failover's act: gateways die under live connections, and the firewalls, which refuse what they did not see begin, do not notice. */
import { firewallOfEach, firewallRefusals, killGateway, reviveGateway } from '../../gateway-machine.js';
import { clientAddresses, standardAddresses, standardPorts } from '../../standard-lab.js';
import type { TcpConnections } from '../../traffic.js';
import { twoGatewaysIntent } from '../../two-gateways.js';
import { waitFor } from '../../wait.js';
import { expectThat, ms } from '../act.js';
import type { Narrator } from '../narrator.js';
import { bfd, type FailoverStage, FIREWALLS } from './stage.js';

const CONNECTIONS = 200;
const MESSAGE_MS = 100;
/** Messages that each connection exchanges before a step counts as survived. */
const MORE = 20;

export async function playFailover(stage: FailoverStage, tell: Narrator): Promise<void> {
  const { stack, routers } = stage;
  tell.act(1, 'Two gateways share their flows, and the same firewalls');
  await tell.step(
    'detour apply --wait: both gateways run revision 1, every firewall is up at both',
    async () => {
      await apply(stage, {});
      for (const gateway of ['edge1', 'edge2']) await serving(stage, gateway);
      await spreadOver(stage, 2);
      return `${FIREWALLS} firewalls at 2 gateways; both routers spread over both`;
    },
  );
  const live = await tell.step<Live>(
    `${CONNECTIONS} connections, spread by each router for itself`,
    async () => {
      const opened = await openAll(stage);
      const rows = await stage.detour.flows();
      const atBoth =
        rows.length - new Set(rows.map(({ source, sourcePort }) => `${source}:${sourcePort}`)).size;
      return [
        `${opened.firewalls.size} at ${FIREWALLS} firewalls; ${atBoth} pass both gateways, one way each`,
        opened,
      ];
    },
  );

  tell.act(2, 'A gateway dies');
  await tell.step('other capacities: new connections would go elsewhere', async () => {
    await apply(stage, { fw1: 10, fw3: 300 });
    return 'fw1 10, fw2 100, fw3 300';
  });
  await tell.step('edge2: everything on it killed, its links down', async () => {
    await killGateway(stage, 'edge2');
    await spreadOver(stage, 1);
    return await survived(stage, live);
  });
  await tell.step('edge2 comes back: records and health first, then traffic', async () => {
    await reviveGateway(stage, 'edge2', () => serving(stage, 'edge2'));
    await spreadOver(stage, 2);
    return await survived(stage, live);
  });

  tell.act(3, 'The other gateway dies, and the control plane with it');
  await tell.step('NATS and all controllers killed, then edge1: Redis is enough', async () => {
    await apply(stage, { fw1: 300, fw3: 10 });
    for (const id of ['classifier', 'path-selector', 'stats-collector', 'nats']) await stack.kill(id);
    await killGateway(stage, 'edge1');
    await spreadOver(stage, 1);
    expectThat((await routers.spreadOver('inside')).join() === 'edge2', 'the routers do not use edge2');
    return await survived(stage, live);
  });
}

interface Live {
  readonly connections: TcpConnections;
  readonly firewalls: ReadonlyMap<string, string>;
}

async function apply({ stack }: FailoverStage, capacities: Readonly<Record<string, number>>): Promise<void> {
  const intent = twoGatewaysIntent({ firewalls: FIREWALLS, bfd });
  const nodes = intent.nodes?.map((node) => ({ ...node, capacity: capacities[node.name] ?? 100 }));
  const input = JSON.stringify({ ...intent, nodes });
  const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], { input });
  expectThat(applied.code === 0, `exit code ${applied.code}: ${applied.stderr.trim()}`);
}

async function openAll(stage: FailoverStage): Promise<Live> {
  const connections = await stage.traffic.openTcp({
    ...{ count: CONNECTIONS, localAddresses: clientAddresses(16), intervalMs: MESSAGE_MS },
    remote: { address: standardAddresses.server, port: standardPorts.echo },
  });
  expectThat(connections.opened === CONNECTIONS, `failed: ${JSON.stringify(connections.failed)}`);
  await exchanged(connections);
  const firewalls = await firewallOfEach(stage.firewalls);
  expectThat(firewalls.size === CONNECTIONS, `the firewalls know ${firewalls.size} connections`);
  return { connections, firewalls };
}

/** Each connection got that many more answers; the longest that one waited for an answer until now, in ms. */
async function exchanged(connections: TcpConnections): Promise<number> {
  const before = (await connections.report()).connections;
  await waitFor(
    async () =>
      (await connections.report()).connections.every(
        ({ received }, i) => received >= (before[i]?.received ?? 0) + MORE,
      ),
    { what: `${MORE} more answers on each connection`, timeoutMs: 30_000, everyMs: 50 },
  );
  const { connections: now } = await connections.report();
  return Math.max(...now.map(({ maxGapMs }) => maxGapMs));
}

async function survived(stage: FailoverStage, live: Live): Promise<string> {
  const gapMs = await exchanged(live.connections);
  const { connections } = await live.connections.report();
  const broken = connections.filter(({ isOpen, corrupt }) => !isOpen || corrupt).length;
  const now = await firewallOfEach(stage.firewalls);
  const changed = [...live.firewalls].filter(([flow, firewall]) => now.get(flow) !== firewall).length;
  const refused = await firewallRefusals(stage.firewalls);
  const told = `${broken} of ${CONNECTIONS} connections broke, ${changed} changed their firewall, ${refused} packets refused; longest pause so far ${ms(gapMs)}`;
  expectThat(broken === 0 && changed === 0 && refused === 0, told);
  return told;
}

interface NodeRow {
  readonly name: string;
  readonly gateways: readonly { readonly gateway: string; readonly health: string }[];
}

async function serving({ stack, signal }: FailoverStage, gateway: string): Promise<void> {
  const isSo = async (): Promise<boolean> => {
    const rows = await stack.cliJson<NodeRow[]>(['get', 'nodes']);
    return (
      rows.length === FIREWALLS &&
      rows.every((row) => row.gateways.some((one) => one.gateway === gateway && one.health === 'up'))
    );
  };
  await waitFor(isSo, { what: `every node up at ${gateway}`, timeoutMs: 30_000, everyMs: 100, signal });
}

async function spreadOver({ routers, signal }: FailoverStage, count: number): Promise<void> {
  const isSo = async (): Promise<boolean> => {
    const spread = await Promise.all([routers.spreadOver('inside'), routers.spreadOver('outside')]);
    return spread.every((over) => over.length === count);
  };
  await waitFor(isSo, {
    what: `both routers to use ${count} gateways`,
    timeoutMs: 30_000,
    everyMs: 50,
    signal,
  });
}
