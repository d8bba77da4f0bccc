// SPDX-License-Identifier: Apache-2.0
import { waitFor } from '@detour/lab';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openBalance } from './balance.js';
import { pairBfd, pairIntent } from './pair-intent.js';
import { type PairLab, startPairLab } from './pair-lab.js';
import { awaitCounts, countGateway, FLAGS, pairFrame, watchPair } from './pair-packets.js';

/** Longest that a failure may take: the detection time (RFC 5880 6.8.4), one interval, and 100 ms for the machine. */
const NOTICED_MS = pairBfd.intervalMs * (pairBfd.multiplier + 1) + 100;
const PPS = 1_000;

describe('a pair whose node fails', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('vrfd-health');
  });
  afterEach(async () => {
    await plug(true);
    await bench.forward('red', true);
    await bench.apply(bench.intent);
    await bench.awaitRow('red', 'up');
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  /** Both links of the node lose their carrier, or get it back. */
  const plug = async (on: boolean): Promise<void> => {
    for (const device of ['a', 'b'])
      await bench.lab.exec('svm-red', ['ip', 'link', 'set', 'dev', device, on ? 'up' : 'down']);
  };
  const counted = () => ({ ...bench, crowd: bench.crowd('red') });
  const ask = { first: 0, count: 50, proto: 'udp' } as const;

  it('VRFD-5 BFD down: with drop no packet is on La, Lb or IN and all are counted node_down; with bypass it is on IN, never on La', async () => {
    const frames = Array.from({ length: 100 }, (_, i) =>
      pairFrame({ direction: 'down', northPort: 41_000 + i, flags: FLAGS.syn }),
    );
    await bench.forward('red', false);
    await bench.awaitRow('red', 'down');
    const count = await countGateway(bench);
    await using dropping = await watchPair(bench, 'red');
    await bench.sender('north-red').send(frames);
    await awaitCounts(count, ({ drops }) => drops.node_down === frames.length);
    const none = await dropping.stop();
    expect([none.a, none.b, none.south]).toEqual([[], [], []]);
    expect((await count()).drops).toEqual({ node_down: frames.length });

    await bench.apply(pairIntent(['red'], { onFailure: 'bypass' }));
    await bench.awaitRow('red', 'down');
    const after = await countGateway(bench);
    await using passing = await watchPair(bench, 'red');
    await bench.sender('north-red').send(frames);
    await awaitCounts(after, ({ stats }) => stats.bypassed === frames.length);
    const seen = await passing.stop();
    expect([seen.a, seen.b]).toEqual([[], []]);
    expect(seen.south.length).toBe(frames.length);
    expect(new Set(seen.south.map(({ tcp }) => tcp?.srcPort)).size).toBe(frames.length);
    expect((await after()).drops).toEqual({});
  });

  /** 1,000 packets/s, the node pulled under them; what became of those, and then of 2 s more. */
  const pull = async () => {
    const { client } = bench.crowd('red');
    await client.open(ask);
    const whole = await openBalance(counted());
    await client.stream(ask, PPS);
    await waitFor(async () => (await client.report()).received.answer > 500, { what: 'traffic' });
    await plug(false);
    await bench.awaitRow('red', 'down');
    await client.stop();
    const books = await whole.settle();
    const later = await openBalance(counted());
    const before = await client.report();
    await client.stream(ask, PPS);
    const enough = async () => (await client.report()).sent.ask > before.sent.ask + 2_000;
    await waitFor(enough, { what: '2 s of traffic' });
    await client.stop();
    return { books, rest: await later.settle() };
  };
  const MOST_LOST = (PPS * NOTICED_MS) / 1_000;

  it('VRFD-6 the node is pulled under 1,000 packets/s with bypass: no more is lost than in the detection time, and all later ones pass', async () => {
    await bench.apply(pairIntent(['red'], { onFailure: 'bypass' }));
    await bench.awaitRow('red', 'up');
    const { books, rest } = await pull();
    const lost = books.sent - books.delivered;
    expect(lost).toBeGreaterThan(0);
    expect(lost).toBeLessThanOrEqual(MOST_LOST);
    expect(books).toMatchObject({ dropped: {}, endedInNode: { 'svm-red': lost }, corrupt: 0, duplicated: 0 });
    expect(rest).toMatchObject({
      delivered: rest.sent,
      dropped: {},
      endedInNode: {},
      corrupt: 0,
      duplicated: 0,
    });
    expect(rest.sent).toBeGreaterThan(4_000); // asks and answers
    expect(rest.bypassed).toBe(rest.sent);
  });

  it('VRFD-6 the same with drop: nothing passes from then on, all counted node_down', async () => {
    const { books, rest } = await pull();
    const inNode = books.endedInNode['svm-red'] ?? 0;
    expect(inNode).toBeLessThanOrEqual(MOST_LOST);
    const dropped = books.sent - books.delivered - inNode;
    expect(books).toMatchObject({ bypassed: 0, dropped: dropped === 0 ? {} : { node_down: dropped } });
    expect(rest).toMatchObject({
      delivered: 0,
      dropped: { node_down: rest.sent },
      endedInNode: {},
      bypassed: 0,
    });
    expect(rest.sent).toBeGreaterThan(2_000);
  });

  it('VRFD-7 a next hop outside the subnet of its member is refused by name, and packets go on as before', async () => {
    const { intent } = bench;
    const before = await bench.status();
    for (const end of ['a', 'b'] as const) {
      const nodes = structuredClone(intent.nodes ?? []);
      const attach = nodes[0]?.attach;
      const pair = attach?.kind === 'l2pair' ? attach.vrfs.red : undefined;
      if (pair === undefined) throw new Error('the intent has no pair');
      pair[end].nextHop = '192.168.77.2';
      const refused = await bench.stack.cli(['apply', '--wait', '-f', '-'], {
        input: JSON.stringify({ ...intent, nodes }),
      });
      expect(refused.code).not.toBe(0);
      const subnet = end === 'a' ? '10.10.10.0/30' : '20.20.20.0/30';
      expect(refused.stdout + refused.stderr).toContain(
        `"192.168.77.2" is not in the subnet ${subnet} of the local address`,
      );
      expect(refused.stdout + refused.stderr).toContain(`nodes[0].attach.vrfs.red.${end}.nextHop`);
    }
    const after = await bench.status();
    expect([after.runningRevision, after.refusedRevision]).toEqual([before.runningRevision, 0]);
    const count = await countGateway(bench);
    await bench
      .sender('north-red')
      .send([pairFrame({ direction: 'down', northPort: 42_000, flags: FLAGS.syn })]);
    await waitFor(async () => (await count()).fromNode['svm-red'] === 1, { what: 'it to cross the node' });
  });

  it('VRFD-8 while nobody answers for the next hop packets wait, a bounded number of them; the rest, and later all, are arp_fail', async () => {
    const nodes = (bench.intent.nodes ?? []).map(({ health: _, ...node }) => node); // without health: never down
    await bench.forward('red', false);
    await bench.apply({ ...bench.intent, nodes });
    for (const end of ['a', 'b'])
      await bench.lab.exec('edge1', ['ip', 'neigh', 'flush', 'dev', `arm-svm-red-${end}`]);
    await waitFor(async () => (await bench.status()).nodes[0]?.hopReady === false, {
      what: 'the hop to be unresolved',
    });
    const send = (from: number) =>
      bench
        .sender('north-red')
        .send(
          Array.from({ length: 200 }, (_, i) =>
            pairFrame({ direction: 'down', north: `10.1.16.${1 + i}`, northPort: from, flags: FLAGS.syn }),
          ),
        );
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    await send(43_000);
    await awaitCounts(count, ({ drops }) => drops.arp_fail === 200);
    const seen = await views.stop();
    expect([seen.a, seen.b, seen.south]).toEqual([[], [], []]); // nowhere, also to no broadcast address
    expect(await count()).toMatchObject({ drops: { arp_fail: 200 }, received: { 'up-red': 200 } });

    const later = await countGateway(bench);
    await send(43_001);
    await awaitCounts(later, ({ drops }) => (drops.arp_fail ?? 0) >= 200 - 64);
    await bench.forward('red', true);
    const ends = await awaitCounts(
      later,
      ({ drops, fromNode }) => (drops.arp_fail ?? 0) + (fromNode['svm-red'] ?? 0) === 200,
    );
    expect(ends.drops).toEqual({ arp_fail: 200 - (ends.fromNode['svm-red'] ?? 0) });
    expect(ends.fromNode['svm-red']).toBeLessThanOrEqual(64);
  });
});
