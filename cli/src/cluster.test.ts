// SPDX-License-Identifier: Apache-2.0
// The commands on a real NATS server, with a gateway and its bfd that answer over real gRPC.
import { stateKey } from '@detour/contracts';
import { type NatsServer, startNats, until } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { publishIntent } from './apply.js';
import { type Cluster, openCluster } from './cluster.js';
import type { Console } from './console.js';
import { EXIT } from './exit-codes.js';
import { loadCurrent } from './history.js';
import { runCli } from './run-cli.js';

let nats: NatsServer;
let cluster: Cluster;

function consoleOf(input: string, write: { out(text: string): void; err(text: string): void }): Console {
  return {
    ...write,
    env: { DETOUR_NATS: nats.url, DETOUR_AUTHOR: 'tester' },
    signal: new AbortController().signal,
    readInput: async () => input,
  };
}

async function run(args: readonly string[], input = '') {
  let out = '';
  let err = '';
  const write = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const code = await runCli(args, consoleOf(input, write));
  return { code, out, err };
}

/** Runs with `-o json`, and gives what it says. */
async function runJson(args: readonly string[], input = '') {
  const { code, out, err } = await run([...args, '-o', 'json'], input);
  return { code, err, data: JSON.parse(out) as unknown };
}

beforeAll(async () => {
  nats = await startNats();
  cluster = await openCluster(consoleOf('', { out: () => {}, err: () => {} }));
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

/** Two firewalls on one gateway; `capacity` makes documents differ. */
function document(options: { capacity?: number; nodes?: readonly string[] } = {}): string {
  const { capacity = 100, nodes = ['fw1', 'fw2'] } = options;
  const rows = nodes.map(
    (
      name,
      i,
    ) => `  - { name: ${name}, service: firewall, health: fast, capacity: ${capacity}, attach: { kind: tunnel, protocol: vxlan,
      remote: 192.0.2.${11 + i}, vni: ${4001 + i}, gateways: { edge1: { local: 169.254.${i}.1/30, peer: 169.254.${i}.2 } } } }`,
  );
  return `apiVersion: detour/v1
vrfs: [{ name: red, table: 100 }]
gateways:
  - name: edge1
    underlay: { device: eth0, address: 192.0.2.1 }
    ports: [{ name: inside, kind: internal, device: eth1, vrf: red, classify: true }]
healthProfiles: [{ name: fast, bfd: {} }]
services: [{ name: firewall }]
nodes:
${rows.join('\n')}
chains: [{ name: inspect, hops: [firewall] }]
rules: [{ name: web, priority: 1, match: { vrf: red, protocol: tcp, destinationPorts: [80] }, action: { chain: inspect } }]
`;
}

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
    expect(await runJson(['diff', '-f', '-'], document())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 0 },
    });
  });

  it('makes revision 1, and none for the same document again', async () => {
    expect(await runJson(['apply', '-f', '-'], document())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 1, changed: true },
    });
    expect(await runJson(['apply', '-f', '-'], document())).toMatchObject({
      code: EXIT.ok,
      data: { revision: 1, changed: false },
    });
    expect((await run(['apply', '-f', '-'], document())).out).toBe('no change: revision 1 stays in force\n');
  });

  it('shows the difference, then applies it, and keeps numbers and the selection key', async () => {
    const before = (await loadCurrent(cluster)).revision;
    const changed = document({ capacity: 50, nodes: ['fw0', 'fw2'] });
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
    const bad = document().replace('service: firewall', 'service: firewal');
    const { code, err } = await run(['apply', '-f', '-'], bad);
    expect({ code, err }).toEqual({
      code: EXIT.document,
      err: expect.stringContaining('did you mean "firewall"?'),
    });
    expect((await loadCurrent(cluster)).head.revision).toBe(2);
  });

  it('applies the valid rows with --partial, and names the rest', async () => {
    const bad = document({ nodes: ['fw0', 'fw2', 'fw9'] }).replace('peer: 169.254.2.2', 'peer: 169.254.9.2');
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
    const meanwhile = () => run(['apply', '-f', '-'], document({ capacity: 77 }));
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
      document({ capacity: 1 }),
    );
    expect(code).toBe(EXIT.timeout);
    expect(data).toMatchObject({ changed: true, gateways: [{ name: 'edge1', state: 'absent', running: 0 }] });
    expect(err).toMatch(/after 0.1 s these do not run revision \d+: edge1/);
  });

  it('tells one that is there and late from an absent one', async () => {
    await cluster.state.put(stateKey.instance('tunnel-gw', 'late'), beat);
    const { code, data } = await runJson(
      ['apply', '-f', '-', '--wait', '--timeout', '200ms'],
      document({ capacity: 1 }),
    );
    await cluster.state.delete(stateKey.instance('tunnel-gw', 'late'));
    expect({ code, data }).toMatchObject({ code: EXIT.timeout, data: { gateways: [{ state: 'pending' }] } });
  });

  /** Applies with --wait, and lets the gateway answer once the head has moved. */
  async function applyAndAnswer(capacity: number, answer: (revision: number) => object) {
    const before = (await loadCurrent(cluster)).head.revision;
    const applying = runJson(['apply', '-f', '-', '--wait', '--timeout', '20s'], document({ capacity }));
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
    await run(['apply', '-f', '-'], document({ capacity: 10 }));
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

  it('every resource gives a list, or the document, in every format', async () => {
    for (const name of [
      'vrfs',
      'ports',
      'nodes',
      'chains',
      'paths',
      'rules',
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
