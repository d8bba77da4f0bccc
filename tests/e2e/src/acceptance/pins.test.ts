// SPDX-License-Identifier: Apache-2.0
import { rmSync } from 'node:fs';
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import { clientText, namesOf } from './crowd-wire.js';
import { expectAllDelivered, expectNoneRefused, nodeOfEachFlow } from './expectations.js';
import { trackedFlows } from './node-tally.js';
import { awaitWeights } from './reports.js';

/** The standard intent with declared capacities alone. */
function intentOf(
  standard: IntentDocument,
  {
    capacity = {},
    onNodeDown = 'rebalance',
  }: { capacity?: Record<string, number>; onNodeDown?: 'rebalance' | 'keep' },
): IntentDocument {
  return {
    ...standard,
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      capacity: capacity[node.name] ?? 100,
      attributes: {},
    })),
    chains: (standard.chains ?? []).map((chain) => ({ ...chain, onNodeDown })),
  };
}

describe('one node for both directions', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-pins', {
      intent: (given) => {
        standard = given;
        return intentOf(given, {});
      },
    });
    await awaitWeights(bench, { fw1: 1000, fw2: 1000, fw3: 1000 });
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('LB-10 both directions of every flow see the same node, whichever side speaks first', async () => {
    const { client, server } = bench.crowd;
    const tcp = { first: 0, count: 4_000, proto: 'tcp' } as const;
    const udp = { first: 4_000, count: 2_000, proto: 'udp' } as const;
    const fromServer = { first: 6_000, count: 2_000, proto: 'udp' } as const;
    const balance = await openBalance(bench);

    expect(await client.open(tcp)).toMatchObject({ answered: 4_000 });
    expect(await client.open(udp)).toMatchObject({ answered: 2_000 });
    expect(await server.ask(tcp)).toMatchObject({ answered: 4_000 });
    expect(await server.ask(fromServer)).toMatchObject({ answered: 2_000 });
    expect(await client.ask(fromServer)).toMatchObject({ answered: 2_000 });

    const tracked = await trackedFlows(bench);
    const first = (flows: readonly string[]) =>
      new Set(flows.map((flow) => tracked.get(flow)?.[0]?.firstFrom));
    expect(first(namesOf({ first: 0, count: 6_000 }))).toEqual(new Set(['client']));
    expect(first(namesOf(fromServer))).toEqual(new Set(['server']));
    const nodeOf = await nodeOfEachFlow(bench);
    expect(nodeOf.size).toBe(8_000);
    expect(new Set(nodeOf.values()).size).toBe(3);
    await expectNoneRefused(bench);
    await expectAllDelivered(balance);
  });

  it('LB-10 a gateway without any record of an established flow sends either side’s next packet to the same node', async () => {
    const { client, server } = bench.crowd;
    const before = await nodeOfEachFlow(bench);
    const recorded = async () => {
      const { figures } = await bench.status();
      return figures.pinned === 8_000n && figures.unrecorded === 0n;
    };
    await waitFor(recorded, { what: 'all pins to be in Redis', timeoutMs: 60_000, everyMs: 100 });
    await bench.apply(intentOf(standard, { capacity: { fw1: 10 } })); // the hash alone would choose otherwise
    await awaitWeights(bench, { fw1: 100, fw2: 1000, fw3: 1000 });

    const { pinDir } = await bench.status();
    await bench.stack.kill('tunnel-gw');
    rmSync(pinDir, { recursive: true }); // its programs, links and maps with every flow record
    await bench.stack.start('tunnel-gw');
    await bench.stack.ready(['tunnel-gw']);
    await bench.awaitNodes(['fw1', 'fw2', 'fw3'], true);
    await awaitWeights(bench, { fw1: 100, fw2: 1000, fw3: 1000 });
    expect(await bench.flows()).toEqual([]);

    const balance = await openBalance(bench);
    const oneHalf = { first: 0, count: 2_000, proto: 'tcp' } as const;
    const otherHalf = { first: 2_000, count: 2_000, proto: 'tcp' } as const;
    expect(await server.ask(oneHalf)).toMatchObject({ answered: 2_000 });
    expect(await client.ask(otherHalf)).toMatchObject({ answered: 2_000 });
    expect(await client.ask(oneHalf)).toMatchObject({ answered: 2_000 });
    expect(await server.ask(otherHalf)).toMatchObject({ answered: 2_000 });

    const after = await nodeOfEachFlow(bench);
    const asked = namesOf({ first: 0, count: 4_000 });
    expect(asked.filter((flow) => !before.has(flow) || after.get(flow) !== before.get(flow))).toEqual([]);
    await expectNoneRefused(bench);
    await expectAllDelivered(balance);
  });

  it('LB-9 rebalance: each flow of a dead node goes to exactly one survivor, in both directions; no other flow moves', async () => {
    const { client, server } = bench.crowd;
    await bench.apply(intentOf(standard, {}));
    await awaitWeights(bench, { fw1: 1000, fw2: 1000, fw3: 1000 });
    const flows = { first: 10_000, count: 3_000, proto: 'udp' } as const;
    const mine = namesOf(flows);
    expect(await client.open(flows)).toMatchObject({ answered: 3_000 });
    const before = await nodeOfEachFlow(bench);
    const ofDead = mine.filter((flow) => before.get(flow) === 'fw1');
    expect(ofDead.length).toBeGreaterThan(700);
    const { stats } = await bench.counters();

    const balance = await openBalance(bench);
    await client.stream(flows, 3_000);
    await bench.firewall('fw1').silence();
    await bench.awaitNodes(['fw1'], false);
    const repinned = async () =>
      Number(((await bench.counters()).stats.repinned ?? 0n) - (stats.repinned ?? 0n));
    await waitFor(async () => (await repinned()) >= ofDead.length, { what: `${ofDead.length} re-pins` });
    await client.stop();
    expect(await client.ask(flows)).toMatchObject({ answered: 3_000 });
    expect(await server.ask(flows)).toMatchObject({ answered: 3_000 });

    const tracked = await trackedFlows(bench);
    const places = (flow: string) => (tracked.get(flow) ?? []).map((at) => at.node);
    const stayed = mine.filter((flow) => before.get(flow) !== 'fw1');
    expect(stayed.filter((flow) => places(flow).join() !== before.get(flow))).toEqual([]);
    const moved = ofDead.map((flow) => (tracked.get(flow) ?? []).filter((at) => at.node !== 'fw1'));
    expect(moved.filter((at) => at.length !== 1 || at[0]?.bothWays !== true)).toEqual([]);
    expect(new Set(moved.map((at) => at[0]?.node))).toEqual(new Set(['fw2', 'fw3']));
    expect(await repinned()).toBe(ofDead.length);

    const books = await balance.settle();
    expect(books.hops).toEqual({ [HOPS_THROUGH_ONE_NODE]: books.delivered }); // nobody went past the nodes
    expect(Object.keys(books.endedInNode)).toEqual(['fw1']);
    expect(books).toMatchObject({ dropped: {}, bypassed: 0, corrupt: 0, duplicated: 0 });
    await bench.firewall('fw1').restore();
    await bench.awaitNodes(['fw1'], true);
  });

  it('LB-9 keep: flows of a dead node are dropped with a reason, none passes unserviced; other flows stay', async () => {
    const { client } = bench.crowd;
    await bench.apply(intentOf(standard, { onNodeDown: 'keep' }));
    const tcp = { first: 20_000, count: 1_500, proto: 'tcp' } as const;
    const udp = { first: 21_500, count: 1_500, proto: 'udp' } as const;
    for (const flows of [tcp, udp]) expect(await client.open(flows)).toMatchObject({ answered: 1_500 });
    const mine = namesOf({ first: 20_000, count: 3_000 });
    const tracked = await trackedFlows(bench);
    const nodeOf = new Map(mine.map((flow) => [flow, tracked.get(flow)?.[0]?.node]));
    const ofDead = mine.filter((flow) => nodeOf.get(flow) === 'fw2');
    const tcpOfDead = ofDead.filter((flow) => mine.indexOf(flow) < tcp.count).length;
    expect(ofDead.length).toBeGreaterThan(700);

    await bench.firewall('fw2').silence();
    await bench.awaitNodes(['fw2'], false);
    const balance = await openBalance(bench);
    for (const flows of [tcp, udp]) {
      const result = await client.ask({ ...flows, window: 1_500, giveUpMs: 2_000 });
      const lost = flows === tcp ? tcpOfDead : ofDead.length - tcpOfDead;
      expect(result.answered).toBe(1_500 - lost);
      expect(result.unanswered.filter((flow) => nodeOf.get(clientText(flow)) !== 'fw2')).toEqual([]);
    }
    const books = await balance.settle();
    expect(books.dropped).toEqual({ node_down: ofDead.length });
    expect(books.endedInNode).toEqual({});
    expect(books.delivered).toBe(2 * (3_000 - ofDead.length));
    expect(books.hops).toEqual({ [HOPS_THROUGH_ONE_NODE]: books.delivered });
    expect(books.bypassed).toBe(0);
    expect(books.foreign).toBe(2 * tcpOfDead); // an RST to each end of each connection
    await bench.firewall('fw2').restore();
    await bench.awaitNodes(['fw2'], true);

    expect(await client.ask(udp)).toMatchObject({ answered: 1_500 }); // and what was not told of its end goes on when it is back
    const now = await trackedFlows(bench);
    expect(
      mine.filter(
        (flow) =>
          now
            .get(flow)
            ?.map((at) => at.node)
            .join() !== nodeOf.get(flow),
      ),
    ).toEqual([]);
  });
});
