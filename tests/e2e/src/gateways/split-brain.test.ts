// SPDX-License-Identifier: Apache-2.0
/**
 * Gateways that decide the same flows and cannot ask each other: at one moment, cut off from Redis, from NATS and from the controllers, or only
 * slow. Their clocks differ by an hour all the time. Once they meet, both and Redis have one record of each flow, the one of the written rule.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { clockAhead, processOf } from '@detour/lab';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { total } from '../acceptance/crowd.js';
import type { FlowRange } from '../acceptance/crowd-protocol.js';
import { namesOf } from '../acceptance/crowd-wire.js';
import { expectAllDelivered, nodeOfEachFlow } from '../acceptance/expectations.js';
import { alike, equal } from '../acceptance/serving-intents.js';
import { startTwins } from '../acceptance/twins.js';
import {
  adopted,
  awaitAgreement,
  compareNow,
  everywhere,
  paths,
  pathsOf,
  seenTwice,
  winnersOf,
} from './agreement.js';
import { type CrowdedPair, HOPS_BETWEEN_ROUTERS, numberFlows, raiseCrowdedPair } from './crowded-pair.js';
import { cutOff, mend, type Shared } from './cut-off.js';
import { awaitRecords } from './flow-records.js';
import { gatewayNames } from './pair-of-gateways.js';

const HOUR_S = 3_600;
const REDIS: readonly Shared[] = ['redis'];
/** Where tables come from. */
const TABLES: readonly Shared[] = ['nats', 'controllers'];
const EVERYTHING: readonly Shared[] = [...REDIS, ...TABLES];
const OTHERWISE = { fw1: 100, fw2: 400, fw3: 1000 } as const;

describe('two gateways that decide the same flows', () => {
  let pair: CrowdedPair;
  const flows = numberFlows();

  beforeAll(async () => {
    pair = await raiseCrowdedPair(
      'pair-splits',
      { capacity: equal(3) },
      {
        firewalls: 3,
        env: (service, id) => ({
          ...(service === 'tunnel-gw' && {
            ...{ DETOUR_SWEEP_EVERY: '300ms', DETOUR_DECIDE_WITHIN: '20ms' },
            ...{ DETOUR_MAX_FLOWS: '16384', DETOUR_MAX_EMBRYOS: '16384' },
            DETOUR_REDIS: 'redis://172.30.0.1:6379',
          }),
          ...(['tunnel-gw', 'bfd'].some((own) => id === `${own}@edge2`) && clockAhead(HOUR_S)),
        }),
      },
    );
    await pair.awaitWeights(alike(3));
  });
  afterEach(async () => {
    pair.stack.resume('redis');
    for (const gateway of gatewayNames) await mend(pair.lab, gateway);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  it('clocks differ by an hour, and it shows', async () => {
    const { services } = await pair.stack.cliJson<{
      services: { service: string; gateway: string; startedMs: number }[];
    }>(['status']);
    const started = (gateway: string) =>
      services.find((row) => row.service === 'tunnel-gw' && row.gateway === gateway)?.startedMs ?? Number.NaN;
    expect(Math.round((started('edge2') - started('edge1')) / 60_000)).toBe(HOUR_S / 60);
  });

  it('the first packets of 1,000 flows at both within a millisecond, which would choose differently: one record and one node each', async () => {
    await pair.take({ capacity: equal(3), chain: { select: 'random' } });
    await using twins = startTwins(pair.lab);
    const range = flows(1_000, 'udp');
    const mine = namesOf(range);
    const before = await adopted(pair);
    const { within1Ms } = await twins.send({ ...range, kind: 'ask', to: gatewayNames, everyMs: 10 });
    console.info(`${within1Ms} of 1,000 within a millisecond`);
    expect(within1Ms).toBeGreaterThan(500);
    for (const gateway of gatewayNames) await awaitRecords(pair, gateway, mine);
    const now = await everywhere(pair, mine);
    expect(now.pins.size).toBe(1_000);
    expect([...pathsOf(now)].filter(([, held]) => held.size !== 1)).toEqual([]);
    expect(await seenTwice(pair, mine)).toEqual([]);
    expect(await adopted(pair)).toBe(before);
  });

  it('the same while Redis is silent: each goes its own way, and once Redis is back every flow goes the way of the lower path, each re-pin counted', async () => {
    await using twins = startTwins(pair.lab);
    const range = flows(300, 'udp');
    const mine = namesOf(range);
    await pair.take({ capacity: equal(3), chain: { select: 'random' } });
    pair.stack.pause('redis');
    const before = await adopted(pair);
    await twins.send({ ...range, kind: 'ask', to: gatewayNames, everyMs: 10 });
    const [one, two] = await Promise.all(gatewayNames.map((gateway) => awaitRecords(pair, gateway, mine)));
    const expected = mine.map((flow) => Math.min(one?.get(flow)?.path ?? 0, two?.get(flow)?.path ?? 0));
    const contradicted = mine.filter((flow) => one?.get(flow)?.path !== two?.get(flow)?.path);
    expect(contradicted.length).toBeGreaterThan(100);
    expect((await seenTwice(pair, mine)).filter((flow) => !contradicted.includes(flow))).toEqual([]);

    pair.stack.resume('redis');
    await compareNow(pair);
    const { gateways, pins } = await awaitAgreement(pair, mine);
    for (const rows of gateways) expect(paths(rows, mine)).toEqual(expected);
    expect(mine.map((flow) => pins.get(flow)?.path)).toEqual(expected);
    console.info(`${contradicted.length} of 300 contradicted, ${(await adopted(pair)) - before} adopted`);
    expect((await adopted(pair)) - before).toBe(contradicted.length);
  });

  // Every combination of what each may be cut off from, but for who is who; gateways do not speak with each other anyway
  it.each<{ edge1: readonly Shared[]; edge2: readonly Shared[] }>([
    { edge1: [], edge2: REDIS },
    { edge1: [], edge2: TABLES },
    { edge1: [], edge2: EVERYTHING },
    { edge1: REDIS, edge2: REDIS },
    { edge1: REDIS, edge2: TABLES },
    { edge1: REDIS, edge2: EVERYTHING },
    { edge1: TABLES, edge2: TABLES },
    { edge1: TABLES, edge2: EVERYTHING },
    { edge1: EVERYTHING, edge2: EVERYTHING },
  ])(
    'cut off: edge1 from $edge1, edge2 from $edge2, with flows from both sides and other weights where they arrive',
    async (cut) => {
      const { client, server } = pair.crowd;
      await pair.take({ capacity: equal(3) }, alike(3));
      const ranges = { tcp: flows(200, 'tcp'), udp: flows(200, 'udp'), fromServer: flows(200, 'udp') };
      const mine = Object.values<FlowRange>(ranges).flatMap(namesOf);
      const balance = await pair.balance();
      const before = await adopted(pair);
      for (const gateway of gatewayNames) {
        const from = cut[gateway as keyof typeof cut];
        if (from.length > 0) await cutOff(pair.lab, gateway, from);
      }
      await pair.publish({ capacity: { fw1: 10, fw2: 40, fw3: 100 } });
      if (cut.edge1.every((shared) => shared === 'redis')) await pair.awaitWeightsAt('edge1', OTHERWISE);
      const asked = { window: 64, giveUpMs: 3_000 };
      const opened = await client.open({ ...ranges.tcp, ...asked });
      const udp = await client.open({ ...ranges.udp, ...asked });
      const back = await server.ask({ ...ranges.fromServer, ...asked });
      const during = await everywhere(pair, mine);
      const contradicted = [...pathsOf(during)].flatMap(([flow, held]) => (held.size > 1 ? [flow] : []));
      const twice = await seenTwice(pair, mine);

      for (const gateway of gatewayNames) await mend(pair.lab, gateway);
      await pair.awaitWeights(OTHERWISE);
      await compareNow(pair);
      const after = await awaitAgreement(pair, mine);
      expect(after.known.length).toBe(mine.length);
      const [winners, left] = [winnersOf(during), pathsOf(after)];
      expect(during.known.filter((flow) => !left.get(flow)?.has(winners.get(flow) ?? 0))).toEqual([]);
      expect((await adopted(pair)) - before).toBe(contradicted.length);
      console.info(
        `${opened.answered} of 200 connections opened; ${contradicted.length} of 600 flows contradicted`,
      );
      const books = await balance.settle();
      expect([udp.answered, back.answered]).toEqual([200, 200]);
      expect(twice.filter((flow) => !contradicted.includes(flow))).toEqual([]);
      // A firewall that did not see a connection begin drops its SYN-ACK: that, and nothing else, was lost
      expect(total(books.endedInNode)).toBe(200 - opened.answered);
      expect(books).toMatchObject({ bypassed: 0, corrupt: 0 });
      expect(books.hops).toEqual({ [HOPS_BETWEEN_ROUTERS]: books.delivered }); // nobody went past the nodes
      for (const one of pair.firewalls) await one.flushConntrack();
      const udps = [...namesOf(ranges.udp), ...namesOf(ranges.fromServer)];
      expect(await client.ask(ranges.udp)).toMatchObject({ answered: 200 });
      expect(await server.ask(ranges.fromServer)).toMatchObject({ answered: 200 });
      expect((await nodeOfEachFlow(pair, udps)).size).toBe(400);
    },
  );

  it('a gateway whose tunnel-gw is only slow: established flows lose nothing, new ones wait for it, and each has one node', async () => {
    const { client, server } = pair.crowd;
    await pair.take({ capacity: equal(3) }, alike(3));
    const live = flows(200, 'udp');
    expect(await client.open(live)).toMatchObject({ answered: 200 });
    const before = await nodeOfEachFlow(pair, namesOf(live));
    const balance = await pair.balance();
    let isSlow = true;
    const slowed = (async () => {
      const id = processOf('tunnel-gw', 'edge2');
      while (isSlow) {
        pair.stack.pause(id);
        await pause(180);
        pair.stack.resume(id);
        await pause(20);
      }
    })();
    await client.stream(live, 500);
    const [tcp, udp] = [flows(300, 'tcp'), flows(300, 'udp')];
    const opened = await client.open(tcp);
    const fromServer = await server.ask(udp);
    await client.stop();
    isSlow = false;
    await slowed;
    expect(opened).toMatchObject({ answered: 300 });
    expect(fromServer).toMatchObject({ answered: 300 });
    const after = await nodeOfEachFlow(pair, [live, tcp, udp].flatMap(namesOf));
    expect(after.size).toBe(800);
    expect(namesOf(live).filter((flow) => after.get(flow) !== before.get(flow))).toEqual([]);
    await expectAllDelivered(balance, HOPS_BETWEEN_ROUTERS);
  });
});
