// SPDX-License-Identifier: Apache-2.0
// What gateways report of nodes, and what is smoothed, through whole stats-collectors on a real nats-server; clocks are turned by hand.
import { stateKey } from '@detour/contracts';
import { type Clock, Fault, manualClock } from '@detour/core';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exampleIntent } from './testdata.js';
import { StatsRig } from './testing/rig.js';

let rig: StatsRig;
beforeAll(async () => {
  rig = await StatsRig.start();
});
afterAll(() => rig?.[Symbol.asyncDispose]());

const lossy = (more: object = {}) =>
  exampleIntent({
    nodeLines: 'capacity: 100',
    formula: 'capacity * (1 - loss) / (1 + rttMs / 10)',
    scoring: 'slowStart: 0s, hysteresis: 10%',
    gateways: 2,
    ...more,
  });

describe('what gateways measure', () => {
  it('is merged to the same score by replicas that each heard another gateway, and told by gateway', async () => {
    await using one = await rig.startCollector('g1');
    await using two = await rig.startCollector('g2');
    await rig.apply(lossy());
    await until(async () => (await one.scores()).length === 1 && (await two.scores()).length === 1);
    await rig.scored('fw1', 100);
    await one.report('fw1', { rttMs: 15, loss: 0 }, { gateway: 'edge1' });
    await two.report('fw1', { rttMs: 5, loss: 0.8, flows: 3 }, { gateway: 'edge2' });
    await rig.scored('fw1', 30); // 100 × (1 - 0.4) / (1 + 10 / 10)
    expect(rig.published('fw1')?.counted).toEqual(['loss', 'rttMs']);
    for (const collector of [one, two]) {
      const [score] = await collector.scores('fw1');
      expect(score?.inputs).toMatchObject({ rttMs: 10, loss: 0.4, flows: 3 });
      expect(score?.sources).toMatchObject({
        rttMs: 'mean of edge1 15, edge2 5',
        loss: 'mean of edge1 0, edge2 0.8',
        flows: 'sum of edge2 3',
      });
    }
  });

  it('is refused by name where it is no gateway or not for gateways to measure, and out of bounds with an alarm', async () => {
    await using one = await rig.startCollector('g3');
    await rig.apply(lossy());
    await until(async () => (await one.scores()).length === 1);
    const stranger = await one
      .report('fw1', { loss: 1 }, { gateway: 'edge9' })
      .catch((error: unknown) => error);
    expect(stranger instanceof Fault && [stranger.code, stranger.detail]).toEqual([
      'not_found',
      expect.stringContaining('gateway "edge9" is not in the intent: report as one of edge1, edge2'),
    ]);
    expect(await one.report('fw1', { cpu: 0, loss: -1, rttMs: Number.NaN }, { gateway: 'edge1' })).toEqual({
      refused: [
        'cpu: that is not for a gateway to measure; it may report rttMs, loss, flows, bytesPerSecond, dropsPerSecond, retransmissions',
        'loss: -1 is outside 0..1 (share)',
        'rttMs: NaN is outside 0..60000 (ms)',
      ],
    });
    await until(() => rig.mirror.get(stateKey.alarm('stats-collector-g3', 'attribute_refused', 'fw1')));
    await one.report('fw1', { loss: 0 }, { gateway: 'edge1' });
    await until(
      () => rig.mirror.get(stateKey.alarm('stats-collector-g3', 'attribute_refused', 'fw1')) === null,
    );
  });

  it('does not flap when a collector starts anew: it waits for the word that the published score had', async () => {
    const scores: number[] = [];
    const off = rig.mirror.onChange((batch) => {
      for (const { key } of batch.changes)
        if (key === stateKey.score('fw1')) scores.push(rig.published('fw1')?.score ?? -1);
    });
    await rig.apply(lossy());
    {
      await using first = await rig.startCollector('g4');
      await until(async () => (await first.scores()).length === 1);
      await first.report('fw1', { loss: 0.5, rttMs: 0 }, { gateway: 'edge1' });
      await rig.scored('fw1', 50);
    }
    scores.length = 0;
    await using second = await rig.startCollector('g5');
    const shown = await until(async () => (await second.scores('fw1'))[0]);
    expect(shown.why).toContain('no rttMs from gateways yet');
    await second.report('fw1', { loss: 0.4, rttMs: 0 }, { gateway: 'edge1' });
    await rig.scored('fw1', 60);
    off();
    expect(scores).toEqual([60]);
  });
});

describe('smoothing', () => {
  const smoothed = exampleIntent({
    nodeLines: 'capacity: 100, attributes: { report: { staleAfter: 1h } }',
    formula: 'capacity * (1 - cpu)',
    scoring: 'smoothing: 10s, slowStart: 0s, hysteresis: 10%',
  });

  it('lets a spike pass, follows what lasts, goes on in another process, and no step of the wall clock matters', async () => {
    const turned = manualClock();
    let stepMs = 0;
    const clock: Clock = { ...turned, nowMs: () => turned.nowMs() + stepMs };
    await rig.apply(smoothed);
    const second = async (
      collector: { report: Awaited<ReturnType<typeof rig.startCollector>>['report'] },
      cpu: number,
    ) => {
      turned.advance(1_000);
      await collector.report('fw1', { cpu }, { atMs: 0 });
    };
    {
      await using one = await rig.startCollector('s1', clock);
      await until(async () => (await one.scores()).length === 1);
      await one.report('fw1', { cpu: 0 }, { atMs: 0 });
      await rig.scored('fw1', 100);
      await second(one, 1);
      await second(one, 0);
      const [spiked] = await one.scores('fw1');
      expect(spiked?.inputs.cpu).toBe(0);
      expect(spiked?.smoothed.cpu).toBeCloseTo((1 - Math.exp(-0.1)) * Math.exp(-0.1), 5);
      expect(spiked?.score).toBe(100);
      stepMs = -86_400_000;
      for (let i = 0; i < 5; i++) await second(one, 1);
      stepMs = 86_400_000;
      for (let i = 0; i < 5; i++) await second(one, 1);
      const [lasting] = await one.scores('fw1');
      expect(lasting?.smoothed.cpu).toBeCloseTo(1 - (1 - (spiked?.smoothed.cpu ?? 0)) * Math.exp(-1), 5);
      await until(
        () => Math.abs((rig.published('fw1')?.score ?? 0) / 100 - (1 - (lasting?.smoothed.cpu ?? 0))) < 0.05,
      );
    }
    const kept = rig.published('fw1')?.smoothed?.cpu ?? 0;
    expect(kept).toBeGreaterThan(0.5);
    await using two = await rig.startCollector('s2', clock);
    await until(async () => (await two.scores()).length === 1);
    await two.report('fw1', { cpu: 0 }, { atMs: 0 });
    expect((await two.scores('fw1'))[0]).toMatchObject({ inputs: { cpu: 0 }, smoothed: { cpu: kept } });
    await second(two, 0);
    expect((await two.scores('fw1'))[0]?.smoothed.cpu).toBeCloseTo(kept * Math.exp(-0.1), 5);
  });

  it('brings replicas together: what one publishes is where the other goes on from', async () => {
    const clocks = [manualClock(), manualClock()] as const;
    await rig.apply(smoothed);
    await using one = await rig.startCollector('s3', clocks[0]);
    await using two = await rig.startCollector('s4', clocks[1]);
    await until(async () => (await one.scores()).length === 1 && (await two.scores()).length === 1);
    const cpuOf = async (collector: typeof one) => (await collector.scores('fw1'))[0]?.smoothed.cpu;
    await one.report('fw1', { cpu: 0.5 }, { atMs: 0 });
    await until(async () => (await cpuOf(two)) !== undefined);
    clocks[0].advance(10_000); // the other's clock stands still
    await one.report('fw1', { cpu: 0 }, { atMs: 0 });
    const now = await cpuOf(one);
    expect(now).toBeLessThan(0.4);
    await until(async () => (await cpuOf(two)) === now);
    expect(rig.published('fw1')?.smoothed?.cpu).toBe(now);
  });
});
