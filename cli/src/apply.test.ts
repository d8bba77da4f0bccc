// SPDX-License-Identifier: Apache-2.0
// apply, diff and rollback on a real NATS server.
import { type NatsServer, startNats } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { publishIntent } from './apply.js';
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
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

describe('apply and rollback', () => {
  it('before the first apply, says that there is nothing', async () => {
    expect(await run(['get', 'intent'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('detour apply -f'),
    });
    expect(await runJson(['get', 'nodes'])).toMatchObject({ code: EXIT.ok, data: [] });
    expect(await run(['status'])).toMatchObject({
      code: EXIT.degraded,
      out: expect.stringContaining('no intent is applied yet'),
    });
    expect(await runJson(['diff', '-f', '-'], intentText())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 0 },
    });
  });

  it('makes revision 1, and none for the same document again', async () => {
    expect(await runJson(['apply', '-f', '-'], intentText())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 1, changed: true },
    });
    expect(await runJson(['apply', '-f', '-'], intentText())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 1, changed: false },
    });
    expect((await run(['apply', '-f', '-'], intentText())).out).toBe(
      'no change: revision 1 stays in force\n',
    );
  });

  it('shows the difference, then applies it, and keeps numbers and the selection key', async () => {
    const before = (await loadCurrent(cluster)).revision;
    const changed = intentText({ capacity: 50, nodes: ['fw0', 'fw2'] });
    expect((await run(['diff', '-f', '-'], changed)).out).toBe(
      '+ nodes fw0\n- nodes fw1\n~ nodes fw2\n    capacity: 100 → 50\n',
    );
    expect(await runJson(['apply', '-f', '-'], changed)).toMatchObject({
      data: { revision: 2, changed: true },
    });
    const after = (await loadCurrent(cluster)).revision;
    expect(after.numbers.nodes.fw2).toBe(before.numbers.nodes.fw2);
    expect(Object.values(before.numbers.nodes)).not.toContain(after.numbers.nodes.fw0);
    expect(after.selectionKey).toBe(before.selectionKey);
    expect(after).toMatchObject({ author: 'tester', parent: { revision: 1 } });
  });

  it('changes nothing when the document is refused', async () => {
    const bad = intentText().replace('service: firewall', 'service: firewal');
    const { code, err } = await run(['apply', '-f', '-'], bad);
    expect({ code, err }).toEqual({
      code: EXIT.document,
      err: expect.stringContaining('did you mean "firewall"?'),
    });
    expect((await loadCurrent(cluster)).head.revision).toBe(2);
  });

  it('applies the valid rows with --partial, and names the rest', async () => {
    const bad = intentText({ nodes: ['fw0', 'fw2', 'fw9'] }).replace(
      'peer: 169.254.2.2',
      'peer: 169.254.9.2',
    );
    const { code, data, err } = await runJson(['apply', '-f', '-', '--partial'], bad);
    expect({ code, data }).toMatchObject({
      code: EXIT.ok,
      data: { revision: 3, refused: [{ code: 'next_hop_subnet' }] },
    });
    expect(err).toContain('left out: (standard input):');
    expect((await loadCurrent(cluster)).revision.intent.nodes.map(({ name }) => name)).toEqual([
      'fw0',
      'fw2',
    ]);
  });

  it('rolls back as a new revision with the numbers of old', async () => {
    const first = (await runJson(['get', 'intent', '--revision', '1'])).data;
    expect(await runJson(['rollback', '1'])).toMatchObject({
      code: EXIT.ok,
      data: { revision: 4, changed: true },
    });
    expect((await runJson(['get', 'intent'])).data).toEqual(first);
    expect((await loadCurrent(cluster)).revision.numbers.nodes).toEqual({ fw1: 1, fw2: 2 });
    const { data } = await runJson(['get', 'revisions']);
    expect(data).toMatchObject([
      { revision: 4, note: 'rollback to 1' },
      { revision: 3 },
      { revision: 2 },
      { revision: 1, note: '' },
    ]);
    expect(await run(['rollback', '9'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('there is no revision 9: the newest is 4'),
    });
  });
});

describe('two at once', () => {
  /** A cluster in which `meanwhile` happens between reading the head and moving it. */
  function interrupted(meanwhile: () => Promise<unknown>): Cluster {
    let first = true;
    const store: Cluster['store'] = {
      get: (sha256) => cluster.store.get(sha256),
      put: async (bytes) => {
        if (first) await meanwhile();
        first = false;
        return cluster.store.put(bytes);
      },
    };
    return { ...cluster, store };
  }

  async function publish(target: Cluster, capacity: number) {
    const { intent } = (await loadCurrent(cluster)).revision;
    const nodes = intent.nodes.map((node) => ({ ...node, capacity }));
    return publishIntent(target, { intent: { ...intent, nodes }, author: 'second', note: '', always: false });
  }

  it('refuse the later one when another intent came into force', async () => {
    const meanwhile = () => run(['apply', '-f', '-'], intentText({ capacity: 77 }));
    await expect(publish(interrupted(meanwhile), 78)).rejects.toMatchObject({
      code: 'conflict',
      detail: expect.stringContaining('tester applied revision 5 meanwhile'),
    });
    expect((await loadCurrent(cluster)).head.revision).toBe(5);
  });

  it('go on when only the head moved', async () => {
    const meanwhile = () => run(['rollback', '5']);
    expect(await publish(interrupted(meanwhile), 79)).toMatchObject({ revision: 7, changed: true });
    expect((await loadCurrent(cluster)).revision.parent?.revision).toBe(6);
  });
});
