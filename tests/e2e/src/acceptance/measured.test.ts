// SPDX-License-Identifier: Apache-2.0
// What the gateway itself measures of its nodes, from packets through them to the shares of new flows.
import type { FlowRow } from '@detour/contracts';
import { clientAddresses, standardAddresses, standardPorts, startTraffic, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';

const nodes = ['fw1', 'fw2', 'fw3'] as const;
const LOSS = 25;
const FLOWS = 4_000;
/** So patient that a node which loses a quarter of the echoes stays up. */
const echo = { everyMs: 20, multiplier: 50 };

interface Explained {
  readonly score: number;
  readonly fresh: boolean;
  readonly inputs: Readonly<Record<string, number>>;
  readonly smoothed: Readonly<Record<string, number>>;
  readonly sources: Readonly<Record<string, string>>;
}

const keyOf = ({ tuple }: FlowRow) =>
  JSON.stringify(tuple, (_, value) => (typeof value === 'bigint' ? `${value}` : value));

describe('what gateways measure', () => {
  let bench: AcceptanceLab;
  let first = 0;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-measured', {
      gateway: { DETOUR_MEASURE_EVERY: '500ms' },
      intent: (standard) => ({
        ...standard,
        healthProfiles: (standard.healthProfiles ?? []).map((profile) => ({
          ...profile,
          bfd: { ...profile.bfd, echo },
        })),
        scoring: {
          default: {
            formula: 'capacity * max(0, 1 - 3 * loss) / (1 + rttMs / 1000)',
            ...{ smoothing: '3s', hysteresis: '10%', slowStart: '0s' },
          },
        },
        nodes: (standard.nodes ?? []).map((node) => ({
          ...node,
          capacity: 100,
          attributes: { gateways: {} },
        })),
      }),
    });
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  const explain = async (node: string): Promise<Explained> => {
    const [row] = await bench.stack.cliJson<Explained[]>(['get', 'scores', '--explain', node]);
    if (row === undefined) throw new Error(`nobody explains ${node}`);
    return row;
  };
  const awaitScore = (node: string, isIt: (score: number) => boolean, what: string) => {
    let last: unknown;
    return waitFor(
      async () => {
        const row = await explain(node);
        last = row;
        return row.fresh && isIt(row.score) ? row : undefined;
      },
      { what: `the score of ${node} to be ${what}`, timeoutMs: 60_000, everyMs: 300 },
    ).catch((error: unknown) => {
      throw new Error(JSON.stringify(last), { cause: error });
    });
  };
  /** Opens flows, and says how many of them the gateway steered to each node. */
  const openFlows = async () => {
    const before = new Set((await bench.flows()).map(keyOf));
    await bench.crowd.client.open({ first, count: FLOWS, proto: 'udp' });
    first += FLOWS;
    const opened = (await bench.flows()).filter((row) => !before.has(keyOf(row)));
    const at = new Map<string, number>(nodes.map((node) => [node, 0]));
    for (const {
      nodes: [node = ''],
    } of opened)
      at.set(node, (at.get(node) ?? 0) + 1);
    const all = opened.filter(({ nodes: of }) => of.length > 0);
    expect(all.length).toBe(FLOWS);
    return Object.fromEntries([...at].map(([node, count]) => [node, (100 * count) / FLOWS]));
  };

  it('a node that loses packets gets fewer new flows, because echoes through it say so, and established flows stay', {
    timeout: 240_000,
  }, async () => {
    for (const node of nodes)
      await awaitScore(node, (score) => score > 90, 'that of a node that loses nothing');
    const even = await openFlows();
    for (const node of nodes) expect(even[node], node).toBeGreaterThan(28);
    const nodeOf = new Map((await bench.flows()).map((row) => [keyOf(row), row.nodes.join()]));

    await bench.firewall('fw2').loseForwarded(LOSS);
    await awaitScore('fw2', (score) => score > 0 && score < 45, `about ${100 - 3 * LOSS}`);
    // Published when it had come so far; whether new flows follow is for the gateway's tables to say.
    const scores = async () => Promise.all(nodes.map(async (node) => (await explain(node)).score));
    const [one = 0, two = 0, three = 0] = await scores();
    await waitFor(
      async () => {
        const { selections } = await bench.tables();
        const of = new Map(selections[0]?.shares.map((share) => [share.nodes.join(), share.weight]));
        return (of.get('fw2') ?? 1) / (of.get('fw1') ?? 1) < 0.6;
      },
      { what: 'the gateway to have the lower weight', timeoutMs: 20_000, everyMs: 100 },
    );
    const uneven = await openFlows();
    const [, after = 0] = await scores();
    const share = (score: number) => (100 * score) / (one + score + three);
    expect(uneven.fw2, JSON.stringify({ one, two, three, after })).toBeGreaterThan(
      Math.min(share(two), share(after)) - 4,
    );
    expect(uneven.fw2).toBeLessThan(Math.max(share(two), share(after)) + 4);
    expect(uneven.fw2).toBeLessThan(25);

    const moved = (await bench.flows()).filter((row) => {
      const before = nodeOf.get(keyOf(row));
      return before !== undefined && before !== row.nodes.join();
    });
    expect(moved.map(keyOf)).toEqual([]);

    const told = await explain('fw2');
    expect(told.inputs.loss).toBeGreaterThan(0);
    expect(told.smoothed.loss).toBeGreaterThan(0.15);
    expect(told.smoothed.loss).toBeLessThan(0.4);
    expect(told.inputs.rttMs).toBeGreaterThan(0);
    expect(told.sources).toMatchObject({
      loss: expect.stringMatching(/^mean of edge1 /),
      rttMs: expect.stringMatching(/^mean of edge1 /),
      capacity: 'the intent',
    });
    // Throughput, flows and drops are measured too, whether or not the formula names them.
    const shown = await waitFor(
      async () => {
        const { inputs } = await explain('fw1');
        return (inputs.flows ?? 0) > 0 && inputs.bytesPerSecond !== undefined ? inputs : undefined;
      },
      { what: 'flows at fw1', timeoutMs: 20_000, everyMs: 300 },
    );
    expect(shown.dropsPerSecond).toBeGreaterThanOrEqual(0);

    // Connections through the node that loses packets send again, and those through the others do not.
    await using traffic = startTraffic(bench.lab, 'client');
    const connections = await traffic.openTcp({
      ...{ count: 300, localAddresses: clientAddresses(5), intervalMs: 100, timeoutMs: 20_000 },
      remote: { address: standardAddresses.server, port: standardPorts.echo },
    });
    const again = async (node: string) => (await explain(node)).inputs.retransmissions ?? Number.NaN;
    await waitFor(async () => (await again('fw2')) > 0.04, {
      ...{ what: 'retransmissions through fw2', timeoutMs: 30_000, everyMs: 300 },
    });
    for (const node of ['fw1', 'fw3']) expect(await again(node), node).toBeLessThan(0.02);
    await connections.close();

    await bench.firewall('fw2').restore();
    await awaitScore('fw2', (score) => score > 85, 'as before');
    const evenAgain = await openFlows();
    for (const node of nodes) expect(evenAgain[node], node).toBeGreaterThan(27);
  });
});
