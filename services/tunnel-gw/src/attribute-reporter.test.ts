// SPDX-License-Identifier: Apache-2.0
// Reports over real gRPC to collectors that note what they are told.
import { type ReportAttributesRequest, StatsCollectorService } from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { implement, rankInstances, serve, unary } from '@detour/rpc';
import { ResourceStack } from '@detour/runtime';
import { until } from '@detour/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { AttributeReporter } from './attribute-reporter.js';

const resources: ResourceStack[] = [];
afterEach(async () => {
  for (const one of resources.splice(0)) await one[Symbol.asyncDispose]();
});

/** A collector; `answer` says what it refuses, or throws. */
async function startCollector(
  answer: (request: ReportAttributesRequest) => Promise<string[]> = async () => [],
) {
  const stack = new ResourceStack();
  resources.push(stack);
  const told: ReportAttributesRequest[] = [];
  const server = stack.use(
    await serve({
      address: '127.0.0.1:0',
      services: [
        implement(StatsCollectorService, {
          getScores: unary(async () => ({ scores: [] })),
          reportAttributes: unary(async (request) => {
            told.push(request);
            return { refused: await answer(request) };
          }),
        }),
      ],
      log: silentLog,
    }),
  );
  return { address: server.address, told, stop: () => stack[Symbol.asyncDispose]() };
}

const reports = (count: number) =>
  new Map(Array.from({ length: count }, (_, i) => [`fw${i}`, { loss: i / 1_000 }] as const));
const nodesOf = (told: readonly ReportAttributesRequest[]) => told.map(({ node }) => node).sort();

describe('AttributeReporter', () => {
  it('reports each node once, as this gateway, without a time of its own, a few at a time', async () => {
    let now = 0;
    let most = 0;
    const collector = await startCollector(async () => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      return [];
    });
    using reporter = new AttributeReporter({
      gateway: 'edge1',
      instances: () => [collector.address],
      log: silentLog,
    });
    await reporter.report(reports(100));
    expect(nodesOf(collector.told)).toEqual([...reports(100).keys()].sort());
    expect(collector.told.find(({ node }) => node === 'fw7')).toEqual({
      ...{ node: 'fw7', reporter: 'edge1', gateway: 'edge1', atMs: 0n },
      attributes: { loss: 0.007 },
    });
    expect(most).toBeLessThanOrEqual(8);
    expect(reporter.counts).toEqual({ taken: 100, refused: 0, failed: 0 });
  });

  it('turns to another collector where the one that it prefers is gone, and loses nothing', async () => {
    const both = [await startCollector(), await startCollector()];
    const [first] = rankInstances(
      'edge1',
      both.map(({ address }) => address),
    );
    const preferred = both.find(({ address }) => address === first);
    const other = both.find(({ address }) => address !== first);
    await preferred?.stop();
    using reporter = new AttributeReporter({
      ...{ gateway: 'edge1', log: silentLog },
      instances: () => both.map(({ address }) => address),
    });
    await reporter.report(reports(20));
    expect(nodesOf(other?.told ?? [])).toEqual([...reports(20).keys()].sort());
    expect(reporter.counts).toEqual({ taken: 20, refused: 0, failed: 0 });
  });

  it('counts what is refused and what nobody takes, and goes on', async () => {
    const collector = await startCollector(async ({ node }) => {
      if (node === 'fw0') throw new Fault('not_found', 'no such node');
      return node === 'fw1' ? ['loss: no'] : [];
    });
    let instances = [collector.address];
    using reporter = new AttributeReporter({ gateway: 'edge1', instances: () => instances, log: silentLog });
    await reporter.report(reports(3));
    expect(reporter.counts).toEqual({ taken: 1, refused: 2, failed: 0 });
    instances = [];
    await reporter.report(reports(3));
    expect(reporter.counts.failed).toBe(3);
  });

  it('ends its calls with itself', async () => {
    let end = () => {};
    const collector = await startCollector(() => new Promise((resolve) => (end = () => resolve([]))));
    const reporter = new AttributeReporter({
      gateway: 'edge1',
      instances: () => [collector.address],
      log: silentLog,
    });
    const round = reporter.report(reports(3));
    await until(() => collector.told.length === 3);
    reporter[Symbol.dispose]();
    await round;
    expect(reporter.counts).toEqual({ taken: 0, refused: 0, failed: 0 });
    end();
  });
});
