// SPDX-License-Identifier: Apache-2.0
/** The edge's act: two tenants of the same addresses, each through services of its own; a service that dies concerns nobody else. */
import { standardAddresses, standardPorts } from '../../standard-lab.js';
import type { TrafficAgent } from '../../traffic.js';
import { waitFor } from '../../wait.js';
import { expectThat, ms } from '../act.js';
import type { Narrator } from '../narrator.js';
import { edgeIntent } from './intent.js';
import { APPLIANCE, IDS } from './places.js';
import type { EdgeStage } from './stage.js';

const PORT = standardPorts.http[0];
const TENANT = `${standardAddresses.client} to ${standardAddresses.server}:${PORT}`;

export async function playEdge(stage: EdgeStage, tell: Narrator): Promise<void> {
  const { detour, stack, fw1, appliance, red, blue } = stage;
  tell.act(1, 'One gateway, two tenants with the same addresses');
  await tell.step('detour apply: a chain of two services for red, an appliance for blue', async () => {
    const input = JSON.stringify(edgeIntent());
    const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '30s'], { input });
    expectThat(applied.code === 0, `exit code ${applied.code}: ${applied.stderr.trim()}`);
    return 'revision 1 is in force';
  });
  await tell.step('each node is up by what crosses it', async () => {
    for (const node of [fw1.name, IDS, APPLIANCE.ns]) await become(stage, node, 'up');
    return `${fw1.name}: BFD and echo by its tunnel; ${IDS}: BFD from one arm to the other, through it; ${APPLIANCE.ns}: TCP and echo`;
  });
  await tell.step(`red, ${TENANT}: the firewall, then the IDS, and back the other way round`, async () => {
    const before = await stage.crossed();
    const answer = await get(red);
    const { north, south } = await stage.crossed();
    const rows = await fw1.conntrack({ protocol: 'tcp', destinationPort: PORT });
    const row = rows.find(({ sourcePort }) => sourcePort === answer.localPort);
    expectThat(row?.replied === true, `${fw1.name} does not know the connection, or saw one side of it`);
    expectThat(
      north > before.north && south > before.south,
      `${IDS} saw ${north} packets out, ${south} back`,
    );
    const nodes = await nodesOf(stage, answer.localPort);
    expectThat(nodes === `${fw1.name} ${IDS}`, `its nodes are ${nodes}`);
    return `${row.packets} packets through ${fw1.name}, ${north - before.north} out and ${south - before.south} back through ${IDS}; 200 in ${ms(answer.tookMs)}`;
  });
  await tell.step(`blue, ${TENANT}: the appliance, and nothing of red's`, async () => {
    const crossed = await stage.crossed();
    const before = await appliance.report();
    const answer = await get(blue);
    const after = await appliance.report();
    const flow = Object.entries(after.flows).find(([name]) => name.includes(`:${answer.localPort}`))?.[1];
    expectThat(flow?.cookies.length === 1, 'the appliance did not see the flow by one cookie');
    const rows = await fw1.conntrack({ protocol: 'tcp', sourcePort: answer.localPort });
    const now = await stage.crossed();
    expectThat(rows.length === 0, `${fw1.name} of red saw a connection of blue`);
    expectThat(
      now.north === crossed.north && now.south === crossed.south,
      `${IDS} of red saw packets of blue`,
    );
    expectThat((await nodesOf(stage, answer.localPort)) === APPLIANCE.ns, 'its node is not the appliance');
    return `${after.packets - before.packets} packets through ${APPLIANCE.ns}, cookie ${flow.cookies[0]}, 3 options; 0 through red's services`;
  });

  tell.act(2, 'A service dies');
  await tell.step(`${IDS} forwards nothing any more, its links up: red fails closed`, async () => {
    const began = performance.now();
    await stage.bridge(false);
    await become(stage, IDS, 'down');
    const tookMs = performance.now() - began;
    const before = await dropped(stage);
    const answer = await red.httpGet({ ...request, timeoutMs: 900 });
    expectThat(!answer.ok, 'a connection passed without the IDS');
    const drops = (await dropped(stage)) - before;
    expectThat(drops > 0, 'no packet was dropped as node_down');
    return `seen down within ${ms(tookMs)}; ${drops} packets dropped as node_down, none passed`;
  });
  await tell.step('blue does not notice', async () => {
    const answer = await get(blue);
    return `200 in ${ms(answer.tookMs)}`;
  });
  await tell.step(`${IDS} forwards again: so does red`, async () => {
    await stage.bridge(true);
    await become(stage, IDS, 'up');
    const answer = await get(red);
    return `200 in ${ms(answer.tookMs)}, by ${await nodesOf(stage, answer.localPort)}`;
  });
  tell.show(await detour.run('get', 'flows'));
}

const request = {
  remote: { address: standardAddresses.server, port: PORT },
  path: '/',
} as const;

async function get(tenant: TrafficAgent): Promise<{ localPort: number; tookMs: number }> {
  const answer = await tenant.httpGet({ ...request, timeoutMs: 2_500 });
  expectThat(answer.ok && answer.status === 200, `no answer: ${JSON.stringify(answer)}`);
  return answer;
}

/** Names of the nodes on the path of the flow from this port, in order. */
async function nodesOf({ detour }: EdgeStage, localPort: number): Promise<string> {
  const flow = (await detour.flows()).find(({ sourcePort }) => sourcePort === localPort);
  return flow?.nodes.join(' ') ?? 'none: the gateway does not know the flow';
}

interface NodeRow {
  readonly name: string;
  readonly gateways: readonly { readonly health: string }[];
}

async function become({ stack, signal }: EdgeStage, node: string, health: 'up' | 'down'): Promise<void> {
  const isSo = async (): Promise<boolean> => {
    const rows = await stack.cliJson<NodeRow[]>(['get', 'nodes']);
    return rows.find(({ name }) => name === node)?.gateways[0]?.health === health;
  };
  await waitFor(isSo, { what: `${node} to be ${health}`, timeoutMs: 20_000, everyMs: 100, signal });
}

async function dropped({ stack }: EdgeStage): Promise<number> {
  const rows = await stack.cliJson<{ reason: string; packets: number }[]>(['get', 'drops']);
  return rows.find(({ reason }) => reason === 'node_down')?.packets ?? 0;
}
