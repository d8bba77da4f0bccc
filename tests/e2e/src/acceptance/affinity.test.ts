// SPDX-License-Identifier: Apache-2.0
/** Many established flows, while nodes are added and tables change all the time. */
import type { IntentDocument } from '@detour/intent';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { openBalance } from './balance.js';
import { namesOf } from './crowd-wire.js';
import { expectAllDelivered, expectNoneRefused, expectShares, nodeOfEachFlow } from './expectations.js';
import { countCrowdAtNodes, readNodeTallies, sharesSince } from './node-tally.js';
import { awaitWeights, startReports } from './reports.js';
import { alike, equal, servingIntent } from './serving-intents.js';
import { floodTables } from './table-flood.js';

const CROWD_MS = 500_000;
const GENERATIONS_PER_S = 100;

describe('affinity', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-affinity', {
      firewalls: 4,
      intent: (given) => {
        standard = given;
        return servingIntent(given, { capacity: equal(3) });
      },
      pathSelector: { DETOUR_COALESCE: '0ms' }, // a table for each report
      gateway: { DETOUR_SWEEP_EVERY: '60s' }, // a look at 120,000 flows takes CPU from the tables
      awaitUp: ['fw1', 'fw2', 'fw3'],
    });
    await countCrowdAtNodes(bench);
    await awaitWeights(bench, alike(3));
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('LB-8 of 100,000 established flows on 3 nodes none moves when a 4th is added, and new flows reach it at its share', {
    timeout: CROWD_MS,
  }, async () => {
    const established = { first: 0, count: 100_000, proto: 'tcp' } as const;
    const fresh = { first: 100_000, count: 20_000, proto: 'tcp' } as const;
    const balance = await openBalance(bench);
    expect(await bench.crowd.client.open(established)).toMatchObject({ answered: 100_000 });
    const before = await nodeOfEachFlow(bench);
    expect(before.size).toBe(100_000);

    await bench.apply(servingIntent(standard, { capacity: equal(4) }));
    await bench.awaitNodes(['fw4'], true);
    await awaitWeights(bench, alike(4));
    expect(await bench.crowd.client.ask(established)).toMatchObject({ answered: 100_000 });
    expect(await bench.crowd.server.ask(established)).toMatchObject({ answered: 100_000 });
    const after = await nodeOfEachFlow(bench, namesOf(established));
    expect([...before].filter(([flow, node]) => after.get(flow) !== node)).toEqual([]);

    const tally = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(fresh)).toMatchObject({ answered: 20_000 });
    const { opened, percent } = sharesSince(tally, await readNodeTallies(bench));
    expect(opened).toBe(20_000);
    expectShares(percent, { fw1: 25, fw2: 25, fw3: 25, fw4: 25 }, 1.5);
    await expectNoneRefused(bench);
    await expectAllDelivered(balance);
  });

  it('LB-7 while tables are regenerated 100 times a second under 80 % of the highest rate measured, no packet is dropped for want of a table and no flow is sent to two nodes', {
    timeout: CROWD_MS,
  }, async () => {
    await bench.apply(servingIntent(standard, { capacity: equal(4), reported: true }));
    await using reports = await startReports(bench);
    const all = Object.keys(equal(4));
    for (const name of all) await reports.set(name, { cpu: 0.1 });
    await awaitWeights(bench, alike(4));
    const range = { first: 200_000, count: 4_000, proto: 'udp' } as const;
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: range.count });
    const before = await nodeOfEachFlow(bench, namesOf(range));
    const { drops } = await bench.counters();
    const { perS } = await floodTables({
      ...{ crowd: bench.crowd, reports, nodes: all, flows: range },
      generations: async () => [(await bench.tables()).selections[0]?.gen ?? 0],
    });
    expect(Math.min(...perS)).toBeGreaterThanOrEqual(GENERATIONS_PER_S);
    // By the gateway, for whatever reason. What the senders' own queues lose at this rate, on CPUs that are full, is not its affair.
    expect((await bench.counters()).drops).toEqual({ no_table: 0n, ...drops });
    expect(await nodeOfEachFlow(bench, namesOf(range))).toEqual(before);
    await expectNoneRefused(bench);
  });
});
