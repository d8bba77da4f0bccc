// SPDX-License-Identifier: Apache-2.0
// The whole stats-collector on a real nats-server, scraping real HTTP, asked over real gRPC.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { StateMirror } from '@detour/bus';
import { type ScoreValue, stateKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import { until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readScore } from './score-publisher.js';
import { exampleIntent } from './testdata.js';
import { StatsRig } from './testing/rig.js';

let rig: StatsRig;
let mirror: StateMirror;
beforeAll(async () => {
  rig = await StatsRig.start();
  mirror = rig.mirror;
});
afterAll(() => rig?.[Symbol.asyncDispose]());

/** An exporter whose figures a test turns; each scrape adds a second of processor time at the given load. */
class Exporter implements AsyncDisposable {
  connections = 0;
  memoryFree = 1;
  cpu = 0;
  body: string | null = null;
  scrapes = 0;
  #idle = 1000;
  #busy = 0;
  #server: Server;
  #port = 0;

  constructor() {
    this.#server = createServer((_, response) => {
      this.scrapes++;
      this.#idle += 1 - this.cpu;
      this.#busy += this.cpu;
      response.end(this.body ?? this.#text());
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/metrics`;
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.close();
  }

  #text(): string {
    return `node_nf_conntrack_entries ${this.connections}
node_memory_MemTotal_bytes 100
node_memory_MemAvailable_bytes ${100 * this.memoryFree}
node_cpu_seconds_total{cpu="0",mode="idle"} ${this.#idle}
node_cpu_seconds_total{cpu="0",mode="user"} ${this.#busy}
`;
  }
}

const published = (node: string): ScoreValue | null => rig.published(node);
const scored = (node: string, score: number, fresh = true) => rig.scored(node, score, fresh);
const startCollector = (instance: string) => rig.startCollector(instance);
const apply = (nodeLines: string, nodes = 1) => rig.apply(exampleIntent({ nodeLines, nodes }));
const prometheus = (url: string, staleAfter = '600ms', more = '') =>
  `capacity: 100, maxConnections: 1000${more}, attributes: { prometheus: { url: "${url}", every: 100ms, staleAfter: ${staleAfter} } }`;

describe('stats-collector', () => {
  it('publishes what the exporter says, within a scrape of the change, and explains it', async () => {
    await using exporter = await new Exporter().listen();
    await using collector = await startCollector('s1');
    await until(() => collector.hosted.readiness.report().ready);
    await apply(prometheus(exporter.url));
    await scored('fw1', 100);
    exporter.connections = 400;
    await scored('fw1', 60);
    exporter.cpu = 0.9;
    await scored('fw1', 10);
    const [score] = await collector.scores();
    expect(score).toMatchObject({ node: 'fw1', score: 10, fresh: true });
    expect(score?.formula).toContain('capacity * (1 - max(cpu, memory');
    expect(score?.inputs).toMatchObject({
      capacity: 100,
      maxConnections: 1000,
      connections: 400,
      zoneFactor: 1,
      loss: 0,
    });
    expect(score?.inputs.cpu).toBeCloseTo(0.9);
    expect(score?.why).toContain('rttMs is not measured and no source is declared: counts as 0');
  });

  it('takes attributes from any exporter, by the expressions that the document gives', async () => {
    await using exporter = await new Exporter().listen();
    await using _one = await startCollector('s10');
    exporter.body = 'sessions{proto="tcp"} 100\nsessions{proto="udp"} 150\nload1 0.5\n';
    const metrics = `metrics: { connections: sessions, memory: 'load1 / 2', loss: 'sessions{proto="tcp"} / 200' }`;
    const source = `prometheus: { url: "${exporter.url}", every: 100ms, staleAfter: 2s, ${metrics} }`;
    await apply(`capacity: 100, maxConnections: 1000, attributes: { ${source} }`);
    await scored('fw1', 37.5); // 100 × (1 - max(0, 0.25, 250 / 1000)) × (1 - 0.5)
    exporter.body = 'sessions{proto="tcp"} 0\nsessions{proto="udp"} 900\nload1 0.5\n';
    await scored('fw1', 10);
    exporter.body = 'sessions 0\n'; // load1 is gone
    await scored('fw1', 0, false);
    expect(published('fw1')?.why).toContain('no memory came any more from');
  });

  it('a silent node gets score 0 from two replicas, with an alarm each, until it speaks again', async () => {
    await using exporter = await new Exporter().listen();
    await using _one = await startCollector('s2');
    await using _two = await startCollector('s3');
    await apply(prometheus(exporter.url));
    await scored('fw1', 100);
    await exporter.close();
    await scored('fw1', 0, false);
    expect(published('fw1')?.why).toContain('within staleAfter 600 ms');
    const alarms = ['s2', 's3'].map((id) => stateKey.alarm(`stats-collector-${id}`, 'node_stale', 'fw1'));
    await until(() => alarms.every((key) => mirror.get(key) !== null));
    await exporter.listen();
    await scored('fw1', 100);
    await until(() => alarms.every((key) => mirror.get(key) === null));
  });

  it('LB-11 a score that oscillates by 5 % is not written again, by two replicas together', async () => {
    await using exporter = await new Exporter().listen();
    exporter.connections = 500;
    await using _one = await startCollector('s4');
    await using _two = await startCollector('s5');
    await apply(prometheus(exporter.url));
    await scored('fw1', 50);
    const key = stateKey.score('fw1');
    const before = mirror.get(key)?.revision;
    const start = exporter.scrapes;
    const writes: unknown[] = [];
    const off = mirror.onChange((batch) => {
      for (const change of batch.changes) if (change.key === key) writes.push(change.after?.value);
    });
    await until(
      () => {
        exporter.connections = exporter.scrapes % 4 < 2 ? 475 : 525;
        return exporter.scrapes > start + 60;
      },
      { timeoutMs: 20_000 },
    );
    off();
    expect(writes).toEqual([]);
    expect(mirror.get(key)?.revision).toBe(before);
  });

  it('garbage is refused by name with an alarm, and the last believed values count until they are stale', async () => {
    await using exporter = await new Exporter().listen();
    await using _one = await startCollector('s6');
    await apply(prometheus(exporter.url, '2s'));
    await scored('fw1', 100);
    const believed = mirror.get(stateKey.score('fw1'))?.revision;
    exporter.body =
      'node_nf_conntrack_entries -5\nnode_memory_MemTotal_bytes 100\nnode_memory_MemAvailable_bytes NaN\n';
    const alarm = stateKey.alarm('stats-collector-s6', 'attribute_refused', 'fw1');
    const raised = await until(() => mirror.get(alarm));
    expect(raised.value).toMatchObject({
      text: 'fw1: connections: -5 is outside 0..1000000000 (connections); memory: NaN is outside 0..1 (share)',
    });
    expect(mirror.get(stateKey.score('fw1'))?.revision).toBe(believed);
    await scored('fw1', 0, false);
    exporter.body = '<html>not found</html>';
    const before = exporter.scrapes;
    await until(() => exporter.scrapes > before + 2);
    exporter.body = null;
    await scored('fw1', 100);
    await until(() => mirror.get(alarm) === null);
  });

  it('takes reports at one replica for all, refuses the future and what is not measured', async () => {
    await using one = await startCollector('s7');
    await using two = await startCollector('s8');
    await apply('capacity: 100, attributes: { report: { staleAfter: 800ms } }', 2);
    await until(async () => (await two.scores()).length === 2);
    expect(await one.report('fw2', { cpu: 0.25, capacity: 1e6, connections: 1e12 })).toEqual({
      refused: [
        'capacity: it is declared in the intent and cannot be reported',
        'connections: 1000000000000 is outside 0..1000000000 (connections)',
      ],
    });
    await scored('fw2', 75);
    const future = await one.report('fw2', { cpu: 0 }, { atMs: Date.now() + 3_600_000 });
    expect(future.refused[0]).toContain('in the future');
    const unknown = await one.report('fw9', { cpu: 0 }).catch((error: unknown) => error);
    expect(unknown instanceof Fault && unknown.code).toBe('not_found');

    // Kept alive through one replica alone, it is never called stale by the other.
    const writes: boolean[] = [];
    const off = mirror.onChange((batch) => {
      for (const { key, after } of batch.changes)
        if (key === stateKey.score('fw2')) writes.push(readScore(after?.value)?.fresh ?? false);
    });
    const until2s = performance.now() + 2_000;
    await until(
      async () => {
        await one.report('fw2', { cpu: 0.25 });
        return performance.now() > until2s;
      },
      { timeoutMs: 10_000, everyMs: 100 },
    );
    expect(writes.filter((fresh) => !fresh)).toEqual([]);
    off();
    await scored('fw2', 0, false);
    await scored('fw1', 0, false);
  });

  it('publishes again when NATS comes back without its store, and deletes scores of removed nodes', async () => {
    await using exporter = await new Exporter().listen();
    await using _one = await startCollector('s9');
    await apply(prometheus(exporter.url), 2);
    await scored('fw2', 100);
    await rig.nats.restart('empty');
    await rig.bus.whenConnected();
    await apply(prometheus(exporter.url), 2);
    await scored('fw2', 100);
    await apply(prometheus(exporter.url), 1);
    await until(() => mirror.get(stateKey.score('fw2')) === null);
    await scored('fw1', 100);
  });
});
