// SPDX-License-Identifier: Apache-2.0
/** What holds of load balancing and of path selection at one gateway holds with two, where flows go out through one and come back through the other. */
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clientText, namesOf } from '../acceptance/crowd-wire.js';
import { expectAllDelivered, expectShares, nodeOfEachFlow } from '../acceptance/expectations.js';
import { countCrowdAtNodes, readNodeTallies, sharesSince, trackedFlows } from '../acceptance/node-tally.js';
import { startReports } from '../acceptance/reports.js';
import { alike, equal, THREE_PATHS, THREE_WEIGHTS } from '../acceptance/serving-intents.js';
import { type CrowdedPair, HOPS_BETWEEN_ROUTERS, numberFlows, raiseCrowdedPair } from './crowded-pair.js';
import { recordsOf } from './flow-records.js';
import { gatewayNames } from './pair-of-gateways.js';

const CROWD_MS = 120_000;

describe('statements with two gateways', () => {
  let pair: CrowdedPair;
  const flows = numberFlows();
  const firewall = (name: string) => pair.firewalls.find((one) => one.name === name) ?? expect.fail(name);

  beforeAll(async () => {
    pair = await raiseCrowdedPair('pair-states', { capacity: equal(3) }, { firewalls: 4 });
    await countCrowdAtNodes(pair);
    await pair.awaitWeights(alike(3));
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  it('LB-8 with two gateways: of 20,000 established flows on 3 nodes none moves when a 4th is added, and new flows reach it at its share', {
    timeout: CROWD_MS,
  }, async () => {
    const established = flows(20_000, 'tcp');
    const refused = await pair.refusals();
    const balance = await pair.balance();
    expect(await pair.crowd.client.open(established)).toMatchObject({ answered: 20_000 });
    const before = await nodeOfEachFlow(pair, namesOf(established));
    expect(before.size).toBe(20_000);

    await pair.take({ capacity: equal(4) }, alike(4));
    expect(await pair.crowd.client.ask(established)).toMatchObject({ answered: 20_000 });
    expect(await nodeOfEachFlow(pair, namesOf(established))).toEqual(before);

    const tally = await readNodeTallies(pair);
    expect(await pair.crowd.client.open(flows(5_000, 'tcp'))).toMatchObject({ answered: 5_000 });
    const { opened, percent } = sharesSince(tally, await readNodeTallies(pair));
    expect(opened).toBe(5_000);
    expectShares(percent, { fw1: 25, fw2: 25, fw3: 25, fw4: 25 }, 2.5);
    expect(await pair.refusals()).toBe(refused);
    await expectAllDelivered(balance, HOPS_BETWEEN_ROUTERS);
  });

  it('PSEL-2 with two gateways: 1,000 long flows, while ranges are republished 60 times, up to six times a second: each is seen on one path in all its life', {
    timeout: CROWD_MS,
  }, async () => {
    await pair.take({ capacity: THREE_PATHS }, THREE_WEIGHTS);
    await pair.take({ capacity: THREE_PATHS, reported: true }, THREE_WEIGHTS);
    await using reports = await startReports(pair);
    const range = flows(1_000, 'udp');
    const mine = namesOf(range);
    expect(await pair.crowd.client.open(range)).toMatchObject({ answered: 1_000 });
    const pathsAt = async (gateway: string) =>
      new Map([...(await recordsOf(pair, gateway, mine))].map(([flow, { path }]) => [flow, path]));
    const before = await Promise.all(gatewayNames.map(pathsAt));
    const [one = new Map(), two = new Map()] = before;
    expect(new Set([...one.keys(), ...two.keys()]).size).toBe(1_000);
    const both = [...one].filter(([flow]) => two.has(flow));
    expect(both.length).toBeGreaterThan(1_000 / 4);
    expect(both.filter(([flow, path]) => two.get(flow) !== path)).toEqual([]);

    const balance = await pair.balance();
    await pair.crowd.client.stream(range, 2_000);
    const versions = gatewayNames.map(() => new Set<string>());
    const ranges = gatewayNames.map(() => new Set<string>());
    for (let round = 0; round < 60; round++) {
      const load = (at: number) => ({ cpu: ((round * 7 + at * 3) % 10) / 10 });
      const paced = new Promise((resolve) => setTimeout(resolve, 167));
      for (const [at, name] of ['fw1', 'fw2', 'fw3'].entries()) await reports.set(name, load(at));
      await paced;
      for (const [at, gateway] of gatewayNames.entries()) {
        versions[at]?.add(String((await pair.at(gateway).status()).paths?.sequence));
        if (round % 6 === 0) ranges[at]?.add(Object.values(await pair.at(gateway).shares()).join());
      }
    }
    await pair.crowd.client.stop();
    for (const seen of versions) expect(seen.size).toBeGreaterThanOrEqual(55);
    for (const seen of ranges) expect(seen.size).toBeGreaterThan(3);
    expect(await Promise.all(gatewayNames.map(pathsAt))).toEqual(before);
    expect((await nodeOfEachFlow(pair, mine)).size).toBe(1_000);
    await expectAllDelivered(balance, HOPS_BETWEEN_ROUTERS);
  });

  it('LB-10 with two gateways: both directions of every flow see the same node, whichever side speaks first and whichever gateway each direction takes', async () => {
    const { client, server } = pair.crowd;
    const [tcp, udp, fromServer] = [flows(3_000, 'tcp'), flows(1_500, 'udp'), flows(1_500, 'udp')];
    const refused = await pair.refusals();
    const balance = await pair.balance();
    expect(await client.open(tcp)).toMatchObject({ answered: 3_000 });
    expect(await client.open(udp)).toMatchObject({ answered: 1_500 });
    expect(await server.ask(fromServer)).toMatchObject({ answered: 1_500 });
    expect(await server.ask(tcp)).toMatchObject({ answered: 3_000 });
    expect(await client.ask(fromServer)).toMatchObject({ answered: 1_500 });

    const tracked = await trackedFlows(pair);
    const first = (range: { first: number; count: number }) =>
      new Set(namesOf(range).map((flow) => tracked.get(flow)?.[0]?.firstFrom));
    expect(first(udp)).toEqual(new Set(['client']));
    expect(first(fromServer)).toEqual(new Set(['server']));
    const mine = [tcp, udp, fromServer].flatMap(namesOf);
    expect((await nodeOfEachFlow(pair, mine)).size).toBe(6_000);
    for (const gateway of gatewayNames) {
      const ways = [...(await recordsOf(pair, gateway, mine)).values()];
      const out = ways.filter(
        ({ packetsForward, packetsReverse }) => packetsForward > 0n && packetsReverse === 0n,
      );
      const back = ways.filter(
        ({ packetsForward, packetsReverse }) => packetsForward === 0n && packetsReverse > 0n,
      );
      for (const some of [out, back]) expect(some.length).toBeGreaterThan(6_000 / 8);
    }
    expect(await pair.refusals()).toBe(refused);
    await expectAllDelivered(balance, HOPS_BETWEEN_ROUTERS);
  });

  it('LB-9 with two gateways, rebalance: each flow of a dead node goes to exactly one survivor, in both directions; no other flow moves', async () => {
    const { client, server } = pair.crowd;
    await pair.take({ capacity: equal(3) }, { fw1: 1000, fw2: 1000, fw3: 1000 });
    const range = flows(2_000, 'udp');
    const mine = namesOf(range);
    expect(await client.open(range)).toMatchObject({ answered: 2_000 });
    const before = await nodeOfEachFlow(pair, mine);
    const ofDead = mine.filter((flow) => before.get(flow) === 'fw1');
    expect(ofDead.length).toBeGreaterThan(450);
    let records = 0; // a flow that goes out by one gateway and comes back by the other has one at each
    for (const gateway of gatewayNames) records += (await recordsOf(pair, gateway, ofDead)).size;
    expect(records).toBeGreaterThan(ofDead.length);
    const { stats } = await pair.counters();

    const balance = await pair.balance();
    await client.stream(range, 2_000);
    await firewall('fw1').silence();
    await pair.awaitNodes(['fw1'], false);
    const repinned = async () =>
      Number(((await pair.counters()).stats.repinned ?? 0n) - (stats.repinned ?? 0n));
    await waitFor(async () => (await repinned()) >= records, { what: `${records} re-pins`, everyMs: 50 });
    await client.stop();
    expect(await client.ask(range)).toMatchObject({ answered: 2_000 });
    expect(await server.ask(range)).toMatchObject({ answered: 2_000 });

    const tracked = await trackedFlows(pair);
    const places = (flow: string) => (tracked.get(flow) ?? []).filter(({ node }) => node !== 'fw1');
    const stayed = mine.filter((flow) => before.get(flow) !== 'fw1');
    expect(
      stayed.filter(
        (flow) =>
          tracked
            .get(flow)
            ?.map(({ node }) => node)
            .join() !== before.get(flow),
      ),
    ).toEqual([]);
    const moved = ofDead.map(places);
    expect(moved.filter((at) => at.length !== 1 || at[0]?.bothWays !== true)).toEqual([]);
    expect(new Set(moved.map(([at]) => at?.node))).toEqual(new Set(['fw2', 'fw3']));
    expect(await repinned()).toBe(records);

    const books = await balance.settle();
    expect(books.hops).toEqual({ [HOPS_BETWEEN_ROUTERS]: books.delivered }); // nobody went past the nodes
    expect(Object.keys(books.endedInNode)).toEqual(['fw1']);
    expect(books).toMatchObject({ dropped: {}, bypassed: 0, corrupt: 0, duplicated: 0 });
    await firewall('fw1').restore();
    await pair.awaitNodes(['fw1'], true);
  });

  it('LB-9 with two gateways, keep: flows of a dead node are dropped with a reason, none passes unserviced; other flows stay', async () => {
    const { client } = pair.crowd;
    await pair.take({ capacity: equal(3), chain: { onNodeDown: 'keep' } });
    const range = flows(2_000, 'tcp');
    const mine = namesOf(range);
    expect(await client.open(range)).toMatchObject({ answered: 2_000 });
    const before = await nodeOfEachFlow(pair, mine);
    const ofDead = mine.filter((flow) => before.get(flow) === 'fw2').length;
    expect(ofDead).toBeGreaterThan(450);

    await firewall('fw2').silence();
    await pair.awaitNodes(['fw2'], false);
    const balance = await pair.balance();
    const result = await client.ask({ ...range, window: 2_000, giveUpMs: 1_500 });
    expect(result.answered).toBe(2_000 - ofDead);
    expect(result.unanswered.filter((flow) => before.get(clientText(flow)) !== 'fw2')).toEqual([]);
    const books = await balance.settle();
    expect(books).toMatchObject({ dropped: { node_down: ofDead }, endedInNode: {}, bypassed: 0 });
    expect(books.delivered).toBe(2 * (2_000 - ofDead));
    expect(books.hops).toEqual({ [HOPS_BETWEEN_ROUTERS]: books.delivered });
    await firewall('fw2').restore();
    await pair.awaitNodes(['fw2'], true);
    expect(await client.ask(range)).toMatchObject({ answered: 2_000 }); // and they go on when it is back
    expect(await nodeOfEachFlow(pair, mine)).toEqual(before);
  });

  it('PSEL-6 with two gateways: path 102 fails: no flow of 101 and 103 moves, those of 102 are re-pinned about 50:20; when all are down, onFailure holds', {
    timeout: CROWD_MS,
  }, async () => {
    const { client, server } = pair.crowd;
    await pair.take({ capacity: THREE_PATHS }, THREE_WEIGHTS);
    const range = flows(3_000, 'udp');
    const mine = namesOf(range);
    expect(await client.open(range)).toMatchObject({ answered: 3_000 });
    const before = await nodeOfEachFlow(pair, mine);
    const ofSecond = mine.filter((flow) => before.get(flow) === 'fw2');
    expect(ofSecond.length).toBeGreaterThan(750);

    await firewall('fw2').silence();
    await pair.awaitNodes(['fw2'], false);
    const balance = await pair.balance();
    expect(await client.ask(range)).toMatchObject({ answered: 3_000 });
    expect(await server.ask(range)).toMatchObject({ answered: 3_000 });
    const tracked = await trackedFlows(pair);
    const after = (flow: string) =>
      (tracked.get(flow) ?? []).flatMap(({ node }) => (node === 'fw2' ? [] : [node])).join();
    expect(mine.filter((flow) => after(flow) !== before.get(flow))).toEqual(ofSecond);
    const toFirst = ofSecond.filter((flow) => after(flow) === 'fw1').length;
    const toThird = ofSecond.filter((flow) => after(flow) === 'fw3').length;
    expect(toFirst + toThird).toBe(ofSecond.length);
    expectShares({ fw1: (100 * toFirst) / ofSecond.length }, { fw1: 500 / 7 }, 5);
    const books = await balance.settle();
    expect(books.dropped).toEqual({});
    expect(books.hops).toEqual({ [HOPS_BETWEEN_ROUTERS]: books.delivered });

    await Promise.all(['fw1', 'fw3'].map((name) => firewall(name).silence()));
    await pair.awaitNodes(['fw1', 'fw3'], false);
    const last = await pair.balance({ background: ['hop_not_ready', 'arp_fail'] });
    const few = { ...range, count: 500, window: 500, giveUpMs: 1_500 };
    expect(await client.ask(few)).toMatchObject({ answered: 0 });
    expect(await last.settle()).toMatchObject({ dropped: { node_down: 500 }, delivered: 0, bypassed: 0 });
    await Promise.all(['fw1', 'fw2', 'fw3'].map((name) => firewall(name).restore()));
    await pair.awaitNodes(['fw1', 'fw2', 'fw3'], true);
  });
});
