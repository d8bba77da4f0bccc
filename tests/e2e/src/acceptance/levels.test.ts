// SPDX-License-Identifier: Apache-2.0
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab, usageFormula } from './acceptance-lab.js';
import { openBalance } from './balance.js';
import { expectAllDelivered, expectNoneRefused, expectShares } from './expectations.js';
import { countCrowdAtNodes, type NodeTally, readNodeTallies, sharesSince } from './node-tally.js';
import { awaitWeights, type Reports, startReports } from './reports.js';

/** Scores are capacity 100 × (1 - cpu). A node of 60 and more is gold. */
const GOLD = { cpu: 0.2 };
const BRONZE = { cpu: 0.6 };
const HALF = { cpu: 0.5 };
const EVEN = { fw1: 1000, fw2: 1000, fw3: 1000 };
const MAX_SHARE = 40;
const STALE_AFTER_MS = 8_000;
/** The whole crowd of one test, on a busy machine. */
const CROWD_MS = 240_000;

interface Alarm {
  readonly code: string;
  readonly subject: string;
  readonly text: string;
}

describe('levels, wobbling scores and garbage', () => {
  let bench: AcceptanceLab;
  let reports: Reports;
  let next = 0;
  /** Flows that no test has used yet; the rule of TCP flows gives them the level gold, that of UDP flows gives none. */
  const fresh = (count: number, proto: 'tcp' | 'udp') => {
    const first = next;
    next += count;
    return { first, count, proto } as const;
  };
  const alarms = () => bench.stack.cliJson<Alarm[]>(['get', 'alarms']);
  const awaitAlarm = (code: string, active: boolean) =>
    waitFor(
      async () => {
        const found = (await alarms()).find((alarm) => alarm.code === code);
        return active ? found : found === undefined;
      },
      { what: `${code} ${active ? 'to be raised' : 'to be cleared'}`, timeoutMs: 20_000 },
    );
  /** Weights of a chain's paths at the gateway, by node. */
  const weightsOf = async (chain: string): Promise<Record<string, number>> => {
    const { selections } = await bench.tables();
    const shares = selections.find((selection) => selection.chain === chain)?.shares ?? [];
    return Object.fromEntries(shares.map(({ nodes, weight }) => [nodes.join(), weight]));
  };
  const awaitGold = async (nodes: readonly string[]) => {
    let last: Record<string, number> = {};
    const settled = async () => {
      last = await weightsOf('inspect/gold');
      const taking = Object.entries(last).flatMap(([node, weight]) => (weight > 0 ? [node] : []));
      return taking.sort().join() === nodes.join();
    };
    await waitFor(settled, {
      what: `${nodes.join()} to take the gold flows`,
      timeoutMs: 20_000,
      everyMs: 50,
    }).catch((error: unknown) => {
      throw new Error(`the gateway has ${JSON.stringify(last)}`, { cause: error });
    });
  };
  const toServer = (before: Record<string, NodeTally>, after: Record<string, NodeTally>) =>
    Object.fromEntries(
      Object.entries(after).map(([node, tally]) => [node, tally.toServer - (before[node]?.toServer ?? 0)]),
    );

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-levels', {
      intent: (standard) => ({
        ...standard,
        scoring: {
          default: { formula: usageFormula, hysteresis: '10%', slowStart: '0s', levels: { gold: 60 } },
        },
        nodes: (standard.nodes ?? []).map((node) => ({
          ...node,
          capacity: 100,
          ...(node.name === 'fw1' && { maxShare: `${MAX_SHARE}%` }),
          attributes: { report: { staleAfter: `${STALE_AFTER_MS}ms` } },
        })),
        rules: (standard.rules ?? []).map((rule) =>
          rule.name === 'web-out' ? { ...rule, level: 'gold' } : rule,
        ),
      }),
    });
    await countCrowdAtNodes(bench);
    reports = await startReports(bench);
  });
  afterAll(async () => {
    await reports?.[Symbol.asyncDispose]();
    await bench?.[Symbol.asyncDispose]();
  });

  it('LB-3 all gold flows land on gold nodes while one of them is alive; flows without a level go to any', {
    timeout: CROWD_MS,
  }, async () => {
    await reports.set('fw1', GOLD);
    await reports.set('fw2', GOLD);
    await reports.set('fw3', BRONZE);
    await awaitGold(['fw1', 'fw2']);
    expect(Object.values(await weightsOf('inspect')).every((weight) => weight > 0)).toBe(true);
    expect(await bench.stack.cliJson(['get', 'scores', '--explain', 'fw1'])).toMatchObject([
      {
        ...{ node: 'fw1', score: 80, fresh: true, levels: ['gold'] },
        formula: expect.stringContaining('capacity * (1 - max(cpu, memory'),
        inputs: { capacity: 100, cpu: 0.2, zoneFactor: 1 },
        why: expect.stringContaining('memory is not measured and no source is declared'),
      },
    ]);
    const balance = await openBalance(bench);

    let before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(fresh(10_000, 'tcp'))).toMatchObject({ answered: 10_000 });
    let after = await readNodeTallies(bench);
    const { opened, percent } = sharesSince(before, after);
    expect(opened).toBe(10_000);
    expectShares(percent, { fw1: MAX_SHARE, fw2: 100 - MAX_SHARE, fw3: 0 }, 2);
    expect(percent.fw3).toBe(0);

    before = after;
    expect(await bench.crowd.client.open(fresh(3_000, 'udp'))).toMatchObject({ answered: 3_000 });
    after = await readNodeTallies(bench);
    for (const packets of Object.values(toServer(before, after))) expect(packets).toBeGreaterThan(300);
    await expectAllDelivered(balance);

    // One of the two dies: the other has all gold flows.
    await bench.firewall('fw2').silence();
    await awaitGold(['fw1']);
    before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(fresh(4_000, 'tcp'))).toMatchObject({ answered: 4_000 });
    expect(sharesSince(before, await readNodeTallies(bench)).percent).toMatchObject({ fw1: 100, fw3: 0 });
    expect((await alarms()).map(({ code }) => code)).not.toContain('level_unmet');

    // The other is gold no more: none is left, and the chain's other nodes have them, with an alarm.
    await reports.set('fw1', BRONZE);
    await awaitGold(['fw1', 'fw3']);
    await awaitAlarm('level_unmet', true);
    before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(fresh(2_000, 'tcp'))).toMatchObject({ answered: 2_000 });
    expect(sharesSince(before, await readNodeTallies(bench)).percent.fw3).toBeGreaterThan(30);

    // A gold node is alive again.
    await bench.firewall('fw2').restore();
    await awaitGold(['fw2']);
    await awaitAlarm('level_unmet', false);
    before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(fresh(2_000, 'tcp'))).toMatchObject({ answered: 2_000 });
    expect(sharesSince(before, await readNodeTallies(bench)).percent).toMatchObject({
      fw1: 0,
      fw2: 100,
      fw3: 0,
    });
    await expectNoneRefused(bench);
  });

  it('LB-11 a score that oscillates by 5 % for 60 s makes one table generation at most, threshold 10 %', {
    timeout: CROWD_MS,
  }, async () => {
    for (const node of ['fw1', 'fw2', 'fw3']) await reports.set(node, HALF);
    await awaitWeights(bench, EVEN);
    const balance = await openBalance(bench);
    const flows = fresh(1_000, 'tcp');
    expect(await bench.crowd.client.open(flows)).toMatchObject({ answered: 1_000 });
    const versions = new Set<string>();
    const scores = new Set<number>();
    const startMs = performance.now();
    for (let turn = 0; performance.now() - startMs < 60_000; turn++) {
      const cpu = turn % 2 === 0 ? 0.475 : 0.525;
      await reports.set('fw1', { cpu });
      const heard = await waitFor(
        async () => {
          const score = (await reports.scores()).get('fw1');
          return score?.inputs.cpu === cpu && score;
        },
        { what: `cpu ${cpu} to be heard`, timeoutMs: 10_000, everyMs: 50 },
      );
      scores.add(heard.score);
      const { paths } = await bench.status();
      versions.add(`${paths?.epoch}/${paths?.sequence}`);
      expect(await bench.crowd.client.ask(flows)).toMatchObject({ answered: 1_000 });
    }
    expect(versions.size).toBeLessThanOrEqual(2); // the one before, and one generation
    expect(scores.size).toBeLessThanOrEqual(2);
    await expectAllDelivered(balance);

    // Beyond the threshold it is another score, and another table.
    await reports.set('fw1', { cpu: 0.7 });
    await awaitWeights(bench, { fw1: 600, fw2: 1000, fw3: 1000 });
  });

  it('LB-12 a node that reports garbage is ignored by name, with an alarm, and gets no more than its cap', {
    timeout: CROWD_MS,
  }, async () => {
    for (const node of ['fw1', 'fw2', 'fw3']) await reports.set(node, HALF);
    await awaitWeights(bench, EVEN);
    const hour = 3_600_000;
    const garbage: readonly (readonly [Record<string, number>, number, RegExp])[] = [
      [{ cpu: Number.NaN }, 0, /^cpu: NaN is outside/],
      [{ cpu: -5 }, 0, /^cpu: -5 is outside/],
      [{ memory: Number.NEGATIVE_INFINITY }, 0, /^memory: -Infinity is outside/],
      [{ connections: 1e12 }, 0, /^connections: 1000000000000 is outside/],
      [{ connections: -1 }, 0, /^connections: -1 is outside/],
      [{ capacity: 1e9 }, 0, /^capacity: it is declared/],
      [{ maxShare: 1 }, 0, /^maxShare: unknown attribute/],
      [{ cpu: 0 }, hour, /in the future/],
    ];
    const { paths: before } = await bench.status();
    for (const [attributes, aheadMs, why] of garbage) {
      const refused = await reports.say('fw1', attributes, { aheadMs });
      expect(refused).toHaveLength(1);
      expect(refused[0]).toMatch(why);
      const { score, fresh: isFresh, inputs } = (await reports.scores()).get('fw1') ?? {};
      expect({ score, isFresh, cpu: inputs?.cpu }).toEqual({ score: 50, isFresh: true, cpu: 0.5 });
    }
    expect(await awaitAlarm('attribute_refused', true)).toMatchObject({ subject: 'fw1' });
    expect((await bench.status()).paths).toEqual(before); // nothing of it reached the gateway

    // What is believed of a report raises the score to double that of the others, and with it the share to its cap alone.
    await reports.silence('fw1');
    const balance = await openBalance(bench);
    const lies = { cpu: 0, memory: Number.NaN, connections: 1e12, capacity: 1e9 };
    expect(await reports.say('fw1', lies)).toHaveLength(3);
    await awaitWeights(bench, { fw1: 1000, fw2: 750, fw3: 750 });
    expect((await reports.scores()).get('fw1')?.score).toBe(100);
    const tally = await readNodeTallies(bench);
    const beat = setInterval(() => void reports.say('fw1', lies).catch(() => undefined), 1_000);
    try {
      expect(await bench.crowd.client.open(fresh(20_000, 'udp'))).toMatchObject({ answered: 20_000 });
    } finally {
      clearInterval(beat);
    }
    const packets = toServer(tally, await readNodeTallies(bench)); // one a flow
    expect(Object.values(packets).reduce((sum, count) => sum + count, 0)).toBe(20_000);
    expectShares({ fw1: (packets.fw1 ?? 0) / 200 }, { fw1: MAX_SHARE }, 1.5);
    await expectAllDelivered(balance);

    // Garbage alone is no sign of life.
    const silentMs = performance.now();
    await waitFor(
      async () => {
        await reports.say('fw1', { cpu: Number.NaN });
        return (await reports.scores()).get('fw1')?.fresh === false;
      },
      { what: 'fw1 to be stale', timeoutMs: STALE_AFTER_MS + 10_000, everyMs: 250 },
    );
    expect(performance.now() - silentMs).toBeLessThan(STALE_AFTER_MS + 10_000);
    await awaitWeights(bench, { fw1: 0 });
    await reports.set('fw1', HALF);
    await awaitWeights(bench, EVEN);
    await expectNoneRefused(bench);
  });
});
