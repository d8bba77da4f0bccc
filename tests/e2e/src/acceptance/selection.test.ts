// SPDX-License-Identifier: Apache-2.0
/** Which path flows take and keep: nodes that paths share, the way back, drains, a path that fails, ranges that change all the time. */
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import { crowdServer } from './crowd.js';
import { namesOf } from './crowd-wire.js';
import { expectAllDelivered, expectShares, nodeOfEachFlow } from './expectations.js';
import { countCrowdAtNodes, readNodeTallies, sharesSince, trackedFlows } from './node-tally.js';
import { countTtls, readTtls } from './node-ttls.js';
import { awaitWeights, startReports } from './reports.js';
import { servingIntent, THREE_PATHS, THREE_WEIGHTS } from './serving-intents.js';

const CROWD_MS = 300_000;

/** F1, F2 and I1, I2, I3, all of one capacity; three of their six combinations are paths. */
function sharedNodes(standard: IntentDocument): IntentDocument {
  return {
    ...standard,
    services: [{ name: 'firewall' }, { name: 'ids' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: ['fw1', 'fw2'].includes(node.name) ? 'firewall' : 'ids',
      attributes: {},
    })),
    chains: [
      {
        name: 'inspect',
        hops: ['firewall', 'ids'],
        paths: [
          ['fw1', 'fw3'],
          ['fw1', 'fw4'],
          ['fw2', 'fw5'],
        ],
      },
    ],
  };
}

describe('selection of paths', () => {
  let bench: AcceptanceLab;
  let standard: IntentDocument;
  let next = 0;
  const flows = <P extends 'tcp' | 'udp'>(count: number, proto: P) => {
    next += count;
    return { first: next - count, count, proto };
  };

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-select', {
      firewalls: 5,
      intent: (given) => {
        standard = given;
        return servingIntent(given, { capacity: THREE_PATHS });
      },
      awaitUp: ['fw1', 'fw2', 'fw3'],
    });
    await countCrowdAtNodes(bench);
    await countTtls(bench, ['fw1', 'fw3']);
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('PSEL-10 paths {F1,I1} {F1,I2} {F2,I3} with equal load for F1 and F2 have ranges of 25/25/50, and F1 and F2 each see half of 40,000 flows within 1 point', {
    timeout: CROWD_MS,
  }, async () => {
    await bench.apply(sharedNodes(standard));
    const allUp = async () => {
      const shares = (await bench.tables()).selections[0]?.shares ?? [];
      return shares.length === 3 && shares.every(({ state }) => state === 'up');
    };
    await waitFor(allUp, { what: 'all three paths to be up', timeoutMs: 30_000, everyMs: 50 });
    await awaitWeights(bench, { 'fw1,fw3': 500, 'fw1,fw4': 500, 'fw2,fw5': 1000 });
    const [selection] = (await bench.tables()).selections;
    const ranges = (selection?.shares ?? []).map((share) => (100 * share.slots) / (selection?.slots ?? 0));
    expect(ranges.map(Math.round)).toEqual([25, 25, 50]);
    const before = await readNodeTallies(bench);
    const balance = await openBalance(bench);

    expect(await bench.crowd.client.open(flows(40_000, 'tcp'))).toMatchObject({ answered: 40_000 });

    const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
    expect(opened).toBe(2 * 40_000); // each at two nodes
    expectShares(percent, { fw1: 25, fw2: 25 }, 0.5); // half of all flows is a quarter of what two nodes saw
    expectShares(percent, { fw3: 12.5, fw4: 12.5, fw5: 25 }, 0.5);
    expect(await balance.settle()).toMatchObject({ dropped: {}, endedInNode: {}, bypassed: 0 });
  });

  it('PSEL-3 a flow on path {F1,I1}: replies are of the same path in reverse, and pass I1, then F1', async () => {
    const range = flows(400, 'udp');
    const before = { fw1: await readTtls(bench, 'fw1'), fw3: await readTtls(bench, 'fw3') };
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: 400 });
    const ours = new Set(namesOf(range));
    const rows = (await bench.flows()).filter((row) => ours.has(clientOf(row.tuple)));
    const onPath = rows.filter((row) => row.nodes.join() === 'fw1,fw3');
    expect(onPath.length).toBeGreaterThan(60);
    // Both directions are of one record, so of one path
    expect(onPath.every((row) => row.packetsForward === 1n && row.packetsReverse === 1n)).toBe(true);
    expect(new Set(onPath.map((row) => row.path)).size).toBe(1);
    const tracked = await trackedFlows(bench);
    const placesOf = (row: (typeof rows)[number]) =>
      (tracked.get(clientOf(row.tuple)) ?? []).filter((at) => at.bothWays).map((at) => at.node);
    expect(onPath.filter((row) => placesOf(row).sort().join() !== 'fw1,fw3')).toEqual([]);

    // Every router takes one off the TTL: who sees more of it comes first.
    const fw1 = await readTtls(bench, 'fw1', before.fw1);
    const fw3 = await readTtls(bench, 'fw3', before.fw3);
    const [toServer1, toServer3] = [onlyTtl(fw1.toServer), onlyTtl(fw3.toServer)];
    const [toClient1, toClient3] = [onlyTtl(fw1.toClient), onlyTtl(fw3.toClient)];
    expect(fw3.toServer[toServer3]).toBe(onPath.length);
    expect(fw3.toClient[toClient3]).toBe(onPath.length);
    expect(toServer1).toBe(toServer3 + 1);
    expect(toClient3).toBe(toClient1 + 1);
  });

  it('PSEL-9 path 103 is drained: none of 10,000 new flows takes it, and those that it had finish on it', {
    timeout: CROWD_MS,
  }, async () => {
    await bench.apply(servingIntent(standard, { capacity: THREE_PATHS }));
    await awaitWeights(bench, THREE_WEIGHTS);
    const old = flows(5_000, 'tcp');
    expect(await bench.crowd.client.open(old)).toMatchObject({ answered: 5_000 });
    const before = await nodeOf(old);
    const ofThird = namesOf(old).filter((flow) => before.get(flow) === 'fw3');
    expect(ofThird.length).toBeGreaterThan(800);

    expect(await bench.stack.cli(['drain', 'fw3'])).toMatchObject({ code: 0 });
    await awaitWeights(bench, { fw1: 1000, fw2: 600, fw3: 0 });
    const tally = await readNodeTallies(bench);
    const balance = await openBalance(bench);
    expect(await bench.crowd.client.open(flows(10_000, 'tcp'))).toMatchObject({ answered: 10_000 });
    const { opened, percent } = sharesSince(tally, await readNodeTallies(bench));
    expect(opened).toBe(10_000);
    expect(percent.fw3).toBe(0);
    expectShares(percent, { fw1: 62.5, fw2: 37.5 }, 2);
    for (let round = 0; round < 3; round++) {
      expect(await bench.crowd.client.ask(old)).toMatchObject({ answered: 5_000 });
      expect(await bench.crowd.server.ask(old)).toMatchObject({ answered: 5_000 });
    }
    expect(await nodeOf(old)).toEqual(before);
    await expectAllDelivered(balance);
    expect(await bench.stack.cli(['undrain', 'fw3'])).toMatchObject({ code: 0 });
    await awaitWeights(bench, THREE_WEIGHTS);
  });

  it('PSEL-2 1,000 long flows, while ranges are republished 60 times, up to three times a second: each is seen on one path in all its life', {
    timeout: CROWD_MS,
  }, async () => {
    await bench.apply(servingIntent(standard, { capacity: THREE_PATHS, reported: true }));
    await awaitWeights(bench, THREE_WEIGHTS);
    await using reports = await startReports(bench);
    const range = flows(1_000, 'udp');
    const before = await readPaths(range, async () => {
      expect(await bench.crowd.client.open(range)).toMatchObject({ answered: 1_000 });
    });
    const balance = await openBalance(bench);
    await bench.crowd.client.stream(range, 2_000);
    const versions = new Set<string>();
    const ranges = new Set<string>();
    for (let round = 0; round < 60; round++) {
      const began = performance.now();
      const load = (at: number) => ({ cpu: ((round * 7 + at * 3) % 10) / 10 });
      for (const [at, name] of ['fw1', 'fw2', 'fw3'].entries()) await reports.set(name, load(at));
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + 333 - performance.now())));
      versions.add(String((await bench.status()).paths?.sequence));
      const shares = (await bench.tables()).selections[0]?.shares ?? [];
      ranges.add(shares.map((share) => share.slots).join());
    }
    await bench.crowd.client.stop();
    expect(versions.size).toBeGreaterThanOrEqual(58);
    expect(ranges.size).toBeGreaterThan(5);
    expect(await readPaths(range)).toEqual(before);
    const nodes = await nodeOf(range);
    expect(nodes.size).toBe(1_000);
    await expectAllDelivered(balance);
  });

  it('PSEL-6 path 102 fails: no flow of 101 and 103 moves, those of 102 are re-pinned about 50:20; when all are down, onFailure holds', {
    timeout: CROWD_MS,
  }, async () => {
    await bench.apply(servingIntent(standard, { capacity: THREE_PATHS }));
    await awaitWeights(bench, THREE_WEIGHTS);
    const range = flows(10_000, 'udp');
    expect(await bench.crowd.client.open(range)).toMatchObject({ answered: 10_000 });
    const before = await nodeOf(range);
    const ofSecond = namesOf(range).filter((flow) => before.get(flow) === 'fw2');
    expect(ofSecond.length).toBeGreaterThan(2_500);

    await bench.firewall('fw2').silence();
    await bench.awaitNodes(['fw2'], false);
    const balance = await openBalance(bench);
    expect(await bench.crowd.client.ask(range)).toMatchObject({ answered: 10_000 });
    expect(await bench.crowd.server.ask(range)).toMatchObject({ answered: 10_000 });
    const tracked = await trackedFlows(bench);
    const after = new Map(
      namesOf(range).map((flow) => [
        flow,
        (tracked.get(flow) ?? []).map((at) => at.node).filter((node) => node !== 'fw2'),
      ]),
    );
    const moved = namesOf(range).filter((flow) => after.get(flow)?.join() !== before.get(flow));
    expect(new Set(moved)).toEqual(new Set(ofSecond));
    const toFirst = ofSecond.filter((flow) => after.get(flow)?.join() === 'fw1').length;
    const toThird = ofSecond.filter((flow) => after.get(flow)?.join() === 'fw3').length;
    expect(toFirst + toThird).toBe(ofSecond.length);
    expectShares({ fw1: (100 * toFirst) / ofSecond.length }, { fw1: 500 / 7 }, 4);
    const books = await balance.settle();
    expect(books.dropped).toEqual({});
    expect(books.hops).toEqual({ [HOPS_THROUGH_ONE_NODE]: books.delivered });

    await bench.firewall('fw1').silence();
    await bench.firewall('fw3').silence();
    await bench.awaitNodes(['fw1', 'fw3'], false);
    const last = await openBalance(bench, { background: ['hop_not_ready', 'arp_fail'] });
    const few = { ...range, count: 500, window: 500, giveUpMs: 1_500 };
    expect(await bench.crowd.client.ask(few)).toMatchObject({ answered: 0 });
    expect(await last.settle()).toMatchObject({ dropped: { node_down: 500 }, delivered: 0, bypassed: 0 });
    for (const name of ['fw1', 'fw2', 'fw3']) await bench.firewall(name).restore();
    await bench.awaitNodes(['fw1', 'fw2', 'fw3'], true);
  });

  /** Node of each flow of the range, by client address and port. */
  async function nodeOf(range: { first: number; count: number }): Promise<Map<string, string>> {
    const all = await nodeOfEachFlow(bench, namesOf(range));
    return new Map(namesOf(range).map((flow) => [flow, all.get(flow) ?? 'none']));
  }

  /** Path of each flow of the range as the gateway has it. */
  async function readPaths(
    range: { first: number; count: number },
    begin: () => Promise<void> = async () => undefined,
  ): Promise<Map<string, number>> {
    await begin();
    const ours = new Set(namesOf(range));
    const rows = (await bench.flows()).map((row) => [clientOf(row.tuple), row.path] as const);
    return new Map(rows.filter(([flow]) => ours.has(flow)).sort(([x], [y]) => (x < y ? -1 : 1)));
  }
});

function clientOf(tuple: { src: Uint8Array; sport: number } | undefined): string {
  return `${[...(tuple?.src ?? [])].slice(-4).join('.')}:${tuple?.sport}`;
}

function onlyTtl(counts: Readonly<Record<number, number>>): number {
  const seen = Object.keys(counts);
  expect(seen, `${crowdServer.address} by TTL ${JSON.stringify(counts)}`).toHaveLength(1);
  return Number(seen[0]);
}
