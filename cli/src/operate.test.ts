// SPDX-License-Identifier: Apache-2.0
// apply --wait, drain, and what the state bucket says, on a real NATS server.
import { stateKey } from '@detour/contracts';
import { type NatsServer, startNats, until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, openCluster } from './cluster.js';
import { EXIT } from './exit-codes.js';
import { loadCurrent } from './history.js';
import { intentText, quietConsoleAt, runAt } from './testdata.js';

let nats: NatsServer;
let cluster: Cluster;

const run = (args: readonly string[], input = '') => runAt(nats.url, args, input);

/** Runs with `-o json`, and gives what it says. */
async function runJson(args: readonly string[], input = '') {
  const { code, out, err } = await run([...args, '-o', 'json'], input);
  return { code, err, data: JSON.parse(out) as unknown };
}

beforeAll(async () => {
  nats = await startNats();
  cluster = await openCluster(quietConsoleAt(nats.url));
  await run(['apply', '-f', '-'], intentText());
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

describe('--wait', () => {
  const beat = {
    address: '127.0.0.1:1',
    metrics: '127.0.0.1:1',
    gateway: 'edge1',
    startedMs: Date.now(),
    beat: 1,
  };

  it('names an absent gateway at the timeout', async () => {
    const { code, data, err } = await runJson(
      ['apply', '-f', '-', '--wait', '--timeout', '100ms'],
      intentText({ capacity: 1 }),
    );
    expect(code).toBe(EXIT.timeout);
    expect(data).toMatchObject({ changed: true, gateways: [{ name: 'edge1', state: 'absent', running: 0 }] });
    expect(err).toMatch(/after 0.1 s these do not run revision \d+: edge1/);
  });

  it('tells one that is there and late from an absent one', async () => {
    await cluster.state.put(stateKey.instance('tunnel-gw', 'late'), beat);
    const { code, data } = await runJson(
      ['apply', '-f', '-', '--wait', '--timeout', '200ms'],
      intentText({ capacity: 1 }),
    );
    await cluster.state.delete(stateKey.instance('tunnel-gw', 'late'));
    expect({ code, data }).toMatchObject({ code: EXIT.timeout, data: { gateways: [{ state: 'pending' }] } });
  });

  /** Applies with --wait, and lets the gateway answer once the head has moved. */
  async function applyAndAnswer(capacity: number, answer: (revision: number) => object) {
    const before = (await loadCurrent(cluster)).head.revision;
    const applying = runJson(['apply', '-f', '-', '--wait', '--timeout', '20s'], intentText({ capacity }));
    const revision = await until(async () => {
      const { head } = await loadCurrent(cluster);
      return head.revision > before ? head.revision : null;
    });
    await cluster.state.put(stateKey.gateway('edge1'), answer(revision));
    return { ...(await applying), revision };
  }

  it('returns when the gateway runs it', async () => {
    const { code, data } = await applyAndAnswer(2, (running) => ({
      running,
      refused: 0,
      why: '',
      atMs: Date.now(),
    }));
    expect({ code, data }).toMatchObject({
      code: EXIT.ok,
      data: { gateways: [{ name: 'edge1', state: 'running' }] },
    });
  });

  it('ends with 6 and the reason when the gateway refuses it', async () => {
    const why = 'device eth1 does not exist';
    const { code, err, revision } = await applyAndAnswer(3, (refused) => ({
      running: refused - 1,
      refused,
      why,
      atMs: Date.now(),
    }));
    expect(code).toBe(EXIT.refused);
    expect(err).toBe(`detour: edge1 refused revision ${revision} and keeps ${revision - 1}: ${why}\n`);
    expect((await run(['status'])).out).toContain(`! edge1: no tunnel-gw of this name is registered`);
  });
});

describe('drain', () => {
  it('outlives an apply, and is undone by undrain', async () => {
    expect(await runJson(['drain', 'fw1'])).toMatchObject({
      code: EXIT.ok,
      data: { node: 'fw1', draining: true, changed: true },
    });
    expect(await runJson(['drain', 'fw1'])).toMatchObject({ data: { changed: false } });
    await run(['apply', '-f', '-'], intentText({ capacity: 10 }));
    expect((await runJson(['get', 'nodes', '--node', 'fw1'])).data).toMatchObject([
      { name: 'fw1', draining: true },
    ]);
    expect(await cluster.state.get(stateKey.drain('fw1'))).toMatchObject({
      value: { draining: true, by: 'tester' },
    });
    expect(await runJson(['undrain', 'fw1'])).toMatchObject({ data: { draining: false, changed: true } });
    expect((await runJson(['get', 'nodes', '--node', 'fw1'])).data).toMatchObject([{ draining: false }]);
  });

  it('knows which nodes there are', async () => {
    expect(await run(['drain', 'fw3'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('did you mean "fw'),
    });
  });
});

describe('what the bucket says', () => {
  it('scores, alarms and health', async () => {
    await cluster.state.put(stateKey.score('fw1'), { score: 12.5, fresh: true, why: '', atMs: Date.now() });
    await cluster.state.put(stateKey.alarm('edge1', 'node_down', 'fw2'), {
      text: 'fw2 is down',
      sinceMs: Date.now(),
      active: true,
    });
    await cluster.state.put(stateKey.health('edge1', 'fw2', 'red'), {
      state: 'down',
      source: 'bfd',
      why: 'echo lost',
      atMs: Date.now(),
    });
    expect((await runJson(['get', 'scores'])).data).toMatchObject([
      { node: 'fw1', score: 12.5, fresh: true },
      { node: 'fw2', score: null, why: 'no score is published yet' },
    ]);
    expect((await runJson(['get', 'alarms'])).data).toMatchObject([
      { source: 'edge1', code: 'node_down', subject: 'fw2', text: 'fw2 is down' },
    ]);
    expect((await run(['get', 'nodes'])).out).toContain('edge1: down (echo lost)');
    expect(await run(['status'])).toMatchObject({
      code: EXIT.degraded,
      out: expect.stringContaining('! alarm node_down (fw2): fw2 is down'),
    });
  });

  it('explaining a score needs a declared node and a stats-collector, and says which is missing', async () => {
    expect(await run(['get', 'scores', '--explain', 'fw9'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('no node "fw9" is declared'),
    });
    const { err, data } = await runJson(['get', 'scores', '--explain', 'fw1']);
    expect(data).toEqual([]);
    expect(err).toContain('no stats-collector is registered');
  });

  it('every resource gives a list, or the document, in every format', async () => {
    for (const name of [
      'vrfs',
      'ports',
      'nodes',
      'chains',
      'paths',
      'rules',
      'rule-table',
      'policies',
      'flows',
      'sessions',
      'scores',
      'alarms',
      'drops',
      'gateways',
      'revisions',
    ])
      expect([name, Array.isArray((await runJson(['get', name])).data)]).toEqual([name, true]);
    expect((await run(['get', 'intent'])).out).toContain('apiVersion: detour/v1');
    expect((await run(['get', 'rules', '-o', 'yaml'])).out).toContain('action: "chain: inspect"');
    expect((await run(['get', 'paths'])).out).toMatch(/ 1 {2}inspect {2}fw1 {4}red/);
  });
});
