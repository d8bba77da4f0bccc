// SPDX-License-Identifier: Apache-2.0
// The whole path-selector on a real nats-server and a real redis-server, asked over real gRPC.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { openAffinity } from '@detour/affinity';
import { type ChainRow, FlowInstruction, flowRecordKey, PathSource, stateKey } from '@detour/contracts';
import { hashKeyFromHex, normaliseTuple, silentLog, type Tuple } from '@detour/core';
import { choosePath, digestChains, expandChain } from '@detour/tables';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, startRig, weights } from './testing/rig.js';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig[Symbol.asyncDispose]());
const keyOf = (tuple: Tuple) => flowRecordKey(normaliseTuple(tuple).key);

describe('path-selector', () => {
  it('chooses as the gateway itself would, by the published scores, and says why', async () => {
    await using one = await rig.startSelector('p1');
    await until(() => one.hosted.readiness.report().ready);
    expect((await one.ask(rig.newFlow())).error).toContain('no revision');
    for (const [node, value] of [
      ['fw1', 50],
      ['fw2', 100],
      ['fw3', 50],
    ] as const)
      await rig.score(node, value);
    const made = await rig.apply(['', '', '']);
    await one.live(made.revision);
    const [row] = one.table.rows;
    if (row === undefined) throw new Error('no row');
    expect(weights(one.table.rows)).toEqual([500, 1000, 500]);
    const expanded = expandChain(row, () => 'up');
    const secret = hashKeyFromHex(made.selectionKey);
    const flows = Array.from({ length: 400 }, rig.newFlow);
    const answers = await Promise.all(flows.map((flow) => one.ask(flow)));
    for (const [i, flow] of flows.entries()) {
      const { key, norm } = normaliseTuple(flow);
      expect(answers[i]).toMatchObject({
        path: choosePath(expanded, key, { initiatorIsB: norm === 1, secret }),
        source: PathSource.SELECTED,
        pinGen: 1,
        error: '',
      });
    }
    expect(answers[0]?.version).toEqual(one.table.version);
    expect(answers[0]?.why).toMatch(/^path \d of chain inspect, weight (500|1000) of 2000$/);
    expect((await one.ask(rig.newFlow(), { chain: 9 })).error).toBe(
      `chain 9 is not in revision ${made.revision}`,
    );
    for (const node of ['fw1', 'fw2', 'fw3']) await rig.on.state.delete(stateKey.score(node));
  });

  it('finds the pin again whoever asks, in either direction, and lets it expire with the chain’s idle timeout', async () => {
    const made = await rig.apply(['', ''], 'idleTimeout: { tcp: 10m, udp: 30s, other: 5s }');
    await using one = await rig.startSelector('p2');
    await using two = await rig.startSelector('p3', 'edge2');
    await Promise.all([one.live(made.revision), two.live(made.revision)]);
    const flow = rig.newFlow();
    const first = await one.ask(flow);
    const again = await two.ask(flow, { midflow: true });
    expect(again).toMatchObject({ path: first.path, source: PathSource.PINNED, pinGen: 1 });
    const back: Tuple = { ...flow, src: flow.dst, dst: flow.src, sport: flow.dport, dport: flow.sport };
    expect(await two.ask(back)).toMatchObject({ path: first.path, source: PathSource.PINNED });
    const client = rig.resources.use(openAffinity({ url: rig.on.redis.url, log: silentLog, budgetMs: 1000 }));
    await until(() => client.connected);
    const [held] = await client.lookUp([keyOf(flow)]);
    expect(held?.ok === true && held.value).toMatchObject({ gen: 1, path: first.path, chain: 1 });
    const { stdout } = await promisify(execFile)('redis-cli', [
      '-s',
      rig.on.redis.url.slice(5),
      'ttl',
      keyOf(flow),
    ]);
    expect(Number(stdout)).toBeGreaterThan(590);
    expect(Number(stdout)).toBeLessThanOrEqual(600);
  });

  it('LB-6 two replicas give byte-identical tables under one version, also one that came later', async () => {
    await using one = await rig.startSelector('p4');
    const made = await rig.apply(['capacity: 33', 'capacity: 77', '']);
    await one.live(made.revision);
    await rig.score('fw1', 12.345);
    await rig.score('fw2', 67.89);
    const sequence = await rig.drain('fw3', true);
    await until(() => one.table.version?.sequence === sequence);
    await using two = await rig.startSelector('p5');
    await until(() => two.table.version?.sequence === sequence);
    expect(two.table.version).toEqual(one.table.version);
    expect(weights(one.table.rows)).toEqual([182, 1000, 0]);
    const bytesOf = (rows: readonly ChainRow[]) => Buffer.from(digestChains(rows)).toString('hex');
    expect(bytesOf(two.table.rows)).toBe(bytesOf(one.table.rows));
    await rig.drain('fw3', false);
    for (const node of ['fw1', 'fw2']) await rig.on.state.delete(stateKey.score(node));
  });

  it('gathers a burst of scores into few updates, and sends the last of them soon', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p6');
    await one.live(made.revision);
    one.updates.length = 0;
    await Promise.all(Array.from({ length: 60 }, (_, i) => rig.score('fw1', 50 + (i % 10))));
    const sequence = await rig.score('fw1', 25);
    await until(() => one.table.version?.sequence === sequence);
    expect(weights(one.table.rows)).toEqual([250, 1000]);
    expect(one.updates.length).toBeLessThan(30);
    await rig.on.state.delete(stateKey.score('fw1'));
  });

  it('a stale node gets no new flow; all stale, declared capacity counts, with an alarm', async () => {
    const made = await rig.apply(['capacity: 50', '']);
    await rig.score('fw1', 0, false);
    await using one = await rig.startSelector('p7');
    await one.live(made.revision);
    const paths = new Set(
      (await Promise.all(Array.from({ length: 50 }, () => one.ask(rig.newFlow())))).map(({ path }) => path),
    );
    expect([...paths]).toEqual([made.numbers.paths['inspect@red:fw2']]);
    await rig.score('fw2', 0, false);
    const alarm = stateKey.alarm('path-selector-p7', 'all_stale', 'inspect');
    await until(() => rig.on.state.get(alarm));
    const any = await Promise.all(Array.from({ length: 100 }, () => one.ask(rig.newFlow())));
    expect(new Set(any.map(({ path }) => path)).size).toBe(2);
    expect(any[0]?.why).toContain('by declared capacity: no score is fresh');
    for (const node of ['fw1', 'fw2']) await rig.on.state.delete(stateKey.score(node));
    await until(async () => (await rig.on.state.get(alarm)) === null);
  });

  it('re-pins a flow whose node is down for its gateway, once for all gateways; keep leaves it', async () => {
    for (const gateway of ['edge1', 'edge2'])
      for (const node of ['fw1', 'fw2']) await rig.health(gateway, node, 'up');
    const made = await rig.apply(['health: fast', 'health: fast']);
    const [fw1, fw2] = [made.numbers.paths['inspect@red:fw1'], made.numbers.paths['inspect@red:fw2']];
    await using one = await rig.startSelector('p8');
    await using two = await rig.startSelector('p9', 'edge2');
    await Promise.all([one.live(made.revision), two.live(made.revision)]);
    const flows = Array.from({ length: 60 }, rig.newFlow);
    const before = await Promise.all(flows.map((flow) => one.ask(flow)));
    await rig.health('edge1', 'fw1', 'down');
    await until(async () => (await one.ask(rig.newFlow())).why.includes('of 1000'));
    const after = await Promise.all(flows.map((flow) => one.ask(flow)));
    for (const [i, answer] of after.entries()) {
      if (before[i]?.path === fw2)
        expect(answer).toMatchObject({ path: fw2, source: PathSource.PINNED, pinGen: 1 });
      else {
        expect(answer).toMatchObject({ path: fw2, source: PathSource.REPINNED, pinGen: 2 });
        expect(answer.why).toContain(`was pinned to path ${fw1}, which is down (fw1 is down)`);
      }
    }
    expect(after.filter(({ source }) => source === PathSource.REPINNED).length).toBeGreaterThan(10);
    const elsewhere = await Promise.all(flows.map((flow) => two.ask(flow)));
    expect(elsewhere.map(({ path, pinGen }) => [path, pinGen])).toEqual(
      after.map(({ path, pinGen }) => [path, pinGen]),
    );

    await rig.health('edge1', 'fw2', 'down');
    await until(async () => (await one.ask(rig.newFlow())).path === 0);
    const nothing = await one.ask(rig.newFlow());
    expect(nothing.why).toBe('chain inspect: no path takes new flows (fw1 is down, fw2 is down)');

    const keeping = await rig.apply(['health: fast', 'health: fast'], 'onNodeDown: keep');
    await one.live(keeping.revision);
    const [flow = rig.newFlow()] = flows;
    expect(await one.ask(flow)).toMatchObject({ path: 0 }); // a new connection on its ports is not kept anywhere
    const kept = await one.ask(flow, { midflow: true });
    expect(kept).toMatchObject({ path: fw2, source: PathSource.PINNED });
    expect(kept.why).toContain('kept though fw2 is down');
  });

  it('a new connection on the ports of an ended one does not go where no new flows go', async () => {
    const made = await rig.apply(['', '']);
    const [fw1, fw2] = [made.numbers.paths['inspect@red:fw1'], made.numbers.paths['inspect@red:fw2']];
    await using one = await rig.startSelector('p11');
    await one.live(made.revision);
    const flows = Array.from({ length: 40 }, rig.newFlow);
    const before = await Promise.all(flows.map((flow) => one.ask(flow)));
    await rig.drain('fw2', true);
    await until(() => weights(one.table.rows)?.includes(0));
    const midway = await Promise.all(flows.map((flow) => one.ask(flow, { midflow: true })));
    expect(midway.map(({ path }) => path)).toEqual(before.map(({ path }) => path));
    const after = await Promise.all(flows.map((flow) => one.ask(flow)));
    for (const [i, answer] of after.entries()) {
      if (before[i]?.path === fw1)
        expect(answer).toMatchObject({ path: fw1, source: PathSource.PINNED, pinGen: 1 });
      else {
        expect(answer).toMatchObject({ path: fw1, source: PathSource.REPINNED, pinGen: 2 });
        expect(answer.why).toContain(
          `an ended connection was pinned to path ${fw2}, which takes no new ones`,
        );
      }
    }
    expect(after.filter(({ source }) => source === PathSource.REPINNED).length).toBeGreaterThan(5);
    await rig.drain('fw2', false);
    await until(() => weights(one.table.rows)?.every((weight) => weight > 0));
  });

  it('two gateways whose first packets of a flow come at the same moment, each preferring another path, get the same one', async () => {
    const made = await rig.apply(['', '']);
    const [fw1, fw2] = [
      made.numbers.paths['inspect@red:fw1'] ?? 0,
      made.numbers.paths['inspect@red:fw2'] ?? 0,
    ];
    await using one = await rig.startSelector('p14');
    await using two = await rig.startSelector('p15', 'edge2');
    await Promise.all([one.live(made.revision), two.live(made.revision)]);
    const paths = new Set<number>();
    for (let i = 0; i < 100; i++) {
      const flow = rig.newFlow();
      const askOne = () => one.ask(flow, { preferred: fw1 });
      const askTwo = () => two.ask(flow, { preferred: fw2 });
      const [here, there] = await Promise.all(i % 2 === 0 ? [askOne(), askTwo()] : [askTwo(), askOne()]);
      expect(here).toMatchObject({ path: there.path, pinGen: 1 });
      expect([here.source, there.source].sort()).toEqual([PathSource.SELECTED, PathSource.PINNED]);
      paths.add(here.path);
    }
    expect(paths).toEqual(new Set([fw1, fw2])); // each was first at times
  });

  it('tells what a node has said of a flow at another gateway, and not to a new connection on its ports', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p12');
    await one.live(made.revision);
    const flow = rig.newFlow();
    const { path } = await one.ask(flow);
    const client = rig.resources.use(openAffinity({ url: rig.on.redis.url, log: silentLog, budgetMs: 1000 }));
    await until(() => client.connected);
    const record = { gen: 2, path, chain: 1, initiatorIsB: false, programmed: 'allow' as const };
    await client.repin({ key: keyOf(flow), record, ttlS: 60, expectedGen: 1 });
    expect(await one.ask(flow, { midflow: true })).toMatchObject({
      ...{ path, source: PathSource.PINNED, pinGen: 2, said: FlowInstruction.SKIP_ALL },
    });
    expect(await one.ask(flow)).toMatchObject({
      ...{ path, source: PathSource.REPINNED, pinGen: 3, said: FlowInstruction.UNSPECIFIED },
    });
    expect(await one.ask(flow, { midflow: true })).toMatchObject({
      pinGen: 3,
      said: FlowInstruction.UNSPECIFIED,
    });
  });

  it('a drained path keeps its pinned flows and gets no new one', async () => {
    const made = await rig.apply(['', '']);
    await using one = await rig.startSelector('p10');
    await one.live(made.revision);
    const flows = Array.from({ length: 40 }, rig.newFlow);
    const before = await Promise.all(flows.map((flow) => one.ask(flow)));
    const drain = (draining: boolean) => Promise.all(['fw1', 'fw2'].map((node) => rig.drain(node, draining)));
    await drain(true);
    await until(() => weights(one.table.rows)?.every((weight) => weight === 0));
    const after = await Promise.all(flows.map((flow) => one.ask(flow, { midflow: true })));
    expect(after.map(({ path, source }) => [path, source])).toEqual(
      before.map(({ path }) => [path, PathSource.PINNED]),
    );
    expect((await one.ask(rig.newFlow())).path).toBe(0);
    const reused = await one.ask(flows[0] ?? rig.newFlow());
    expect(reused).toMatchObject({ path: 0, source: PathSource.SELECTED }); // a SYN on the ports of a pinned flow
    await drain(false);
    await until(() => weights(one.table.rows)?.every((weight) => weight > 0));
  });

  it('offers Redis the path that the gateway prefers, of any tier with preempt: false, if it is up and has weight', async () => {
    await using one = await rig.startSelector('p9');
    const weighted = await rig.apply(['', '', '']);
    await one.live(weighted.revision);
    const numbers = one.table.rows[0]?.paths.map(({ number }) => number) ?? [];
    expect(numbers).toHaveLength(3);
    for (const path of numbers)
      expect(await one.ask(rig.newFlow(), { preferred: path })).toMatchObject({ path, pinGen: 1 });
    const pinned = rig.newFlow();
    const [first = 0, second = 0] = numbers;
    await one.ask(pinned, { preferred: first });
    expect(await one.ask(pinned, { preferred: second, midflow: true })).toMatchObject({
      path: first,
      source: PathSource.PINNED,
    });
    const { path } = await one.ask(rig.newFlow(), { preferred: 9_999 });
    expect(numbers).toContain(path);

    const tiers = ['priority: 100', 'priority: 50'];
    const standby = async (chain: string): Promise<number> => {
      const made = await rig.apply(tiers, chain);
      await one.live(made.revision);
      const row = one.table.rows[0];
      const lower = row?.paths.find(({ weight }) => weight < 1000)?.number ?? 0;
      const answer = await one.ask(rig.newFlow(), { chain: row?.number ?? 0, preferred: lower });
      return answer.path === lower ? 50 : 100;
    };
    expect(await standby('select: priority')).toBe(100);
    expect(await standby('select: priority, preempt: false')).toBe(50);
  });
});
