// SPDX-License-Identifier: Apache-2.0
/** Two gateways that select for themselves: alike where they are to, each with a sequence of its own where not, and while tables change all the time. */
import { processOf, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { namesOf } from '../acceptance/crowd-wire.js';
import { nodeOfEachFlow } from '../acceptance/expectations.js';
import { trackedFlows } from '../acceptance/node-tally.js';
import { startReports } from '../acceptance/reports.js';
import { alike, equal, THREE_PATHS, THREE_WEIGHTS } from '../acceptance/serving-intents.js';
import { floodTables } from '../acceptance/table-flood.js';
import { startTwins } from '../acceptance/twins.js';
import { type CrowdedPair, numberFlows, raiseCrowdedPair } from './crowded-pair.js';
import { awaitRecords } from './flow-records.js';
import { gatewayNames } from './pair-of-gateways.js';

const CROWD_MS = 120_000;
const GENERATIONS_PER_S = 100;

describe('selection at two gateways', () => {
  let pair: CrowdedPair;
  const flows = numberFlows();

  beforeAll(async () => {
    pair = await raiseCrowdedPair(
      'pair-selects',
      { capacity: THREE_PATHS },
      {
        firewalls: 4,
        env: (service) => (service === 'path-selector' ? { DETOUR_COALESCE: '0ms' } : {}), // a table for each report
      },
    );
    await pair.awaitWeights(THREE_WEIGHTS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  it('PSEL-5 with two gateways, hash mode: the same 5-tuple that starts at both with the same table, and no Redis, goes by the same path', async () => {
    await using twins = startTwins(pair.lab);
    await pair.take({ capacity: THREE_PATHS }, THREE_WEIGHTS);
    const range = flows(2_000, 'tcp');
    const sentTo = async (gateway: string) =>
      (await pair.at(gateway).status()).nodes.reduce((sum, { toPackets }) => sum + Number(toPackets), 0);
    const before = await Promise.all(gatewayNames.map(sentTo));
    await pair.stack.kill('redis');
    try {
      await twins.send({ ...range, kind: 'syn', to: gatewayNames, everyMs: 2 });
      const all = async () =>
        (await Promise.all(gatewayNames.map(sentTo))).every((sent, i) => sent >= (before[i] ?? 0) + 2_000);
      await waitFor(all, { what: '2,000 flows at each gateway', everyMs: 100 });
      const nodes = await waitFor(
        async () => {
          const tracked = await trackedFlows(pair);
          const of = namesOf(range).map((flow) => tracked.get(flow)?.map(({ node }) => node));
          return of.every((some) => some !== undefined) && of;
        },
        { what: 'each flow at some node', everyMs: 100 },
      );
      expect(nodes.filter((some) => some?.length !== 1)).toEqual([]);
      expect(new Set(nodes.flat())).toEqual(new Set(['fw1', 'fw2', 'fw3']));
    } finally {
      await pair.stack.start('redis');
    }
  });

  it('PSEL-5 with two gateways, random mode: each gateway makes the same choices one after the other when it starts anew, for other flows', {
    timeout: CROWD_MS,
  }, async () => {
    await using twins = startTwins(pair.lab);
    await pair.take({ capacity: equal(3), chain: { select: 'random' } });
    const ids = gatewayNames.map((gateway) => processOf('tunnel-gw', gateway));
    const sequences = async (): Promise<(string | undefined)[][]> => {
      for (const id of ids) await pair.stack.kill(id);
      for (const id of ids) await pair.stack.start(id);
      await pair.stack.ready(ids);
      await pair.awaitNodes(['fw1', 'fw2', 'fw3'], true);
      const each: (string | undefined)[][] = [];
      for (const gateway of gatewayNames) {
        const range = flows(120, 'tcp');
        // One after the other: a question may not overtake another one
        await twins.send({ ...range, kind: 'syn', to: [gateway], atOnce: 1, everyMs: 10 });
        const records = await awaitRecords(pair, gateway, namesOf(range));
        each.push(namesOf(range).map((flow) => records.get(flow)?.nodes.join()));
      }
      return each;
    };
    const once = await sequences();
    for (const nodes of once) expect(new Set(nodes)).toEqual(new Set(['fw1', 'fw2', 'fw3']));
    expect(once[0]).not.toEqual(once[1]);
    expect(await sequences()).toEqual(once);
  });

  it('LB-7 with two gateways: while the tables of both are regenerated 100 times a second under 80 % of the highest rate measured, no packet is dropped for want of a table and no flow is sent to two nodes', {
    timeout: CROWD_MS,
  }, async () => {
    const all = ['fw1', 'fw2', 'fw3', 'fw4'];
    await pair.take({ capacity: equal(4) }, alike(4));
    await pair.take({ capacity: equal(4), reported: true });
    await using reports = await startReports(pair);
    for (const name of all) await reports.set(name, { cpu: 0.1 });
    await pair.awaitWeights(alike(4));
    const range = flows(4_000, 'udp');
    expect(await pair.crowd.client.open(range)).toMatchObject({ answered: range.count });
    const before = await nodeOfEachFlow(pair, namesOf(range));
    const refused = await pair.refusals();
    const { drops } = await pair.counters();
    const { perS } = await floodTables({
      ...{ crowd: pair.crowd, reports, nodes: all, flows: range },
      generations: () =>
        Promise.all(
          gatewayNames.map(async (gateway) => (await pair.at(gateway).tables()).selections[0]?.gen ?? 0),
        ),
    });
    expect(Math.min(...perS)).toBeGreaterThanOrEqual(GENERATIONS_PER_S);
    // By the gateways, for whatever reason. What the senders' own queues lose at this rate, on CPUs that are full, is not their affair.
    expect((await pair.counters()).drops).toEqual({ no_table: 0n, ...drops });
    expect(await nodeOfEachFlow(pair, namesOf(range))).toEqual(before);
    expect(await pair.refusals()).toBe(refused);
  });
});
