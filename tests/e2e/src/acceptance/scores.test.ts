// SPDX-License-Identifier: Apache-2.0
import { HealthState } from '@detour/contracts';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab, usageFormula } from './acceptance-lab.js';
import { openBalance } from './balance.js';
import { namesOf } from './crowd-wire.js';
import { expectAllDelivered, expectNoneRefused, expectShares, nodeOfEachFlow } from './expectations.js';
import { countCrowdAtNodes, readNodeTallies, sharesSince } from './node-tally.js';
import { readReplicas } from './replica-tables.js';
import { awaitWeights, type Reports, startReports } from './reports.js';

const STALE_AFTER_MS = 8_000;
/** Scores are capacity 100 × (1 - cpu). */
const EQUAL = { cpu: 0.8 }; // 20
const DOUBLE = { cpu: 0.6 }; // 40
const BUSY = { cpu: 0.9 }; // 10
const nodes = ['fw1', 'fw2', 'fw3'] as const;
const first = { first: 0, count: 40_000, proto: 'tcp' } as const;
const second = { first: 40_000, count: 20_000, proto: 'tcp' } as const;
const established = { first: 60_000, count: 6_000, proto: 'tcp' } as const;
const third = { first: 66_000, count: 5_000, proto: 'tcp' } as const;

/** A whole crowd takes a minute on a busy machine. */
const CROWD_MS = 300_000;

describe('scores', () => {
  let bench: AcceptanceLab;
  let reports: Reports;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-scores', {
      replicas: { classifier: 2, 'path-selector': 2 },
      intent: (standard) => ({
        ...standard,
        scoring: { default: { formula: usageFormula, hysteresis: '10%', slowStart: '0s' } },
        nodes: (standard.nodes ?? []).map((node) => ({
          ...node,
          capacity: 100,
          attributes: { report: { staleAfter: `${STALE_AFTER_MS}ms` } },
        })),
      }),
    });
    await countCrowdAtNodes(bench);
    reports = await startReports(bench);
    await reports.set('fw1', EQUAL);
    await reports.set('fw2', DOUBLE);
    await reports.set('fw3', EQUAL);
    await awaitWeights(bench, { fw1: 500, fw2: 1000, fw3: 500 });
  });
  afterAll(async () => {
    await reports?.[Symbol.asyncDispose]();
    await bench?.[Symbol.asyncDispose]();
  });

  it('LB-1 reported attributes that score 1:2:1 spread 40,000 distinct TCP flows 25/50/25 within 1.5 points', {
    timeout: CROWD_MS,
  }, async () => {
    const balance = await openBalance(bench);
    const before = await readNodeTallies(bench);
    const scores = await reports.scores();
    expect(nodes.map((node) => scores.get(node)?.score)).toEqual([20, 40, 20]);

    const result = await bench.crowd.client.open(first);

    expect(result).toMatchObject({ sent: 40_000, answered: 40_000 });
    const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
    expect(opened).toBe(40_000);
    expectShares(percent, { fw1: 25, fw2: 50, fw3: 25 }, 1.5);
    await expectAllDelivered(balance);
  });

  it('LB-2 when n2 reports 90 % CPU and scores become 1:0.5:1, new flows split 40/20/40 and no established flow changes its node', {
    timeout: CROWD_MS,
  }, async () => {
    const balance = await openBalance(bench);
    const nodeOf = await nodeOfEachFlow(bench);
    expect(nodeOf.size).toBe(40_000);
    await reports.set('fw2', BUSY);
    await awaitWeights(bench, { fw1: 1000, fw2: 500, fw3: 1000 });
    expect((await reports.scores()).get('fw2')?.score).toBe(10);
    const before = await readNodeTallies(bench);

    expect(await bench.crowd.client.open(second)).toMatchObject({ answered: 20_000 });
    const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
    expect(opened).toBe(20_000);
    expectShares(percent, { fw1: 40, fw2: 20, fw3: 40 }, 1.5);

    expect(await bench.crowd.client.ask(first)).toMatchObject({ answered: 40_000 });
    const after = await nodeOfEachFlow(bench);
    expect(after.size).toBe(60_000);
    expect([...nodeOf].filter(([flow, node]) => after.get(flow) !== node)).toEqual([]);
    await expectNoneRefused(bench);
    await expectAllDelivered(balance);
  });

  it('LB-6 the same attributes and policy make byte-identical tables on two replicas', async () => {
    const compare = async () => {
      const status = await bench.status();
      for (const [controller, digest] of [
        ['classifier', status.rulesDigest],
        ['path-selector', status.pathsDigest],
      ] as const) {
        const [one, other] = await readReplicas(bench, controller);
        expect(one.rows).toBeGreaterThan(0);
        expect(Buffer.from(one.bytes)).toEqual(Buffer.from(other.bytes));
        expect(Buffer.from(digest)).toEqual(Buffer.from(one.digest)); // what the gateway runs
      }
      return Buffer.from((await bench.status()).pathsDigest);
    };
    await reports.set('fw2', BUSY);
    await awaitWeights(bench, { fw1: 1000, fw2: 500, fw3: 1000 });
    const busy = await compare();
    await reports.set('fw2', DOUBLE);
    await awaitWeights(bench, { fw1: 500, fw2: 1000, fw3: 500 });
    const calm = await compare();
    expect(calm).not.toEqual(busy);
  });

  it('LB-5 a node without reports for stale_after scores 0 and gets no new flow; its established flows stay', async () => {
    const balance = await openBalance(bench);
    await reports.set('fw2', DOUBLE);
    await awaitWeights(bench, { fw1: 500, fw2: 1000, fw3: 500 });
    expect(await bench.crowd.client.open(established)).toMatchObject({ answered: 6_000 });
    const nodeOf = await nodeOfEachFlow(bench);
    const onFirst = namesOf(established).filter((flow) => nodeOf.get(flow) === 'fw1').length;
    expect(onFirst).toBeGreaterThan(1_000);
    const lastMs = await reports.silence('fw1');
    await waitFor(async () => (await reports.scores()).get('fw1')?.score === 0, {
      what: 'the score of fw1 to be 0',
      timeoutMs: STALE_AFTER_MS + 5_000,
      everyMs: 20,
    });
    expect(performance.now() - lastMs).toBeGreaterThanOrEqual(STALE_AFTER_MS - 100);
    expect((await reports.scores()).get('fw1')).toMatchObject({ score: 0, fresh: false });
    await awaitWeights(bench, { fw1: 0, fw2: 1000, fw3: 500 });

    const before = await readNodeTallies(bench);
    expect(await bench.crowd.client.open(third)).toMatchObject({ answered: 5_000 });
    const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
    expect(opened).toBe(5_000);
    expect(percent.fw1).toBe(0);

    const atNode = (await readNodeTallies(bench)).fw1?.toServer ?? 0;
    expect(await bench.crowd.client.ask(established)).toMatchObject({ answered: 6_000 });
    expect(((await readNodeTallies(bench)).fw1?.toServer ?? 0) - atNode).toBe(onFirst);
    const { nodes: status } = await bench.status();
    expect(status.find((node) => node.name === 'fw1')?.health).toBe(HealthState.UP);
    await expectNoneRefused(bench);
    await expectAllDelivered(balance);
  });
});
