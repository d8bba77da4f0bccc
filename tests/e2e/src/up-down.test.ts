// SPDX-License-Identifier: Apache-2.0
/**
 * What an operator does by the documents: a node set up by docs/attach-a-node.md, the example of README.md brought up with `make up`,
 * traffic through it, and everything gone after `make down`. The machines are namespaces without anything of Detour in them.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  createLab,
  type Lab,
  type RunResult,
  standardAddresses,
  standardLab,
  startTraffic,
  waitFor,
} from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const name = 'up-down';

/** Fenced blocks of one kind, in their order. */
function blocksOf(path: string, kind: string): string[] {
  const text = readFileSync(root + path, 'utf8');
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, its, block]) =>
    its === kind && block !== undefined ? [block] : [],
  );
}

const isOneCommand = (text: string): boolean => text.startsWith('detour node ');

interface NodeView {
  readonly name: string;
  readonly health: readonly { readonly state: string; readonly why: string }[];
}

describe('make up', () => {
  let lab: Lab;
  let env: Record<string, string>;
  let intent: string;
  let node: ReturnType<Lab['spawn']>;

  beforeAll(async () => {
    const spec = standardLab({ firewalls: 1 });
    lab = await createLab({ ...spec, namespaces: { ...spec.namespaces, edge1: {}, fw1: {} } }, { name });
    env = {
      DETOUR_RUN_DIR: join(lab.dir, 'run'),
      DETOUR_LOG_DIR: join(lab.dir, 'log'),
      DETOUR_PIN_DIR: `/sys/fs/bpf/detour/${name}-edge1`,
      DETOUR_VRF_LOOKUP: 'rules', // so that there are rules to be undone
    };
    intent = join(lab.dir, 'intent.yaml');
    writeFileSync(intent, blocksOf('README.md', 'yaml')[0] ?? '');
  });
  afterAll(async () => {
    if (lab === undefined) return;
    await make('down').catch(() => undefined);
    await lab.close();
  });

  const onEdge = (...argv: readonly string[]): Promise<RunResult> =>
    lab.exec('edge1', argv, { env, okCodes: 'any', timeoutMs: 60_000 });
  /** The verb itself; what it needs is built already. */
  const make = (...args: readonly string[]): Promise<RunResult> =>
    onEdge('make', '-s', '-C', root, '-o', 'build', ...args);
  const detour = (...args: readonly string[]): Promise<RunResult> => onEdge(`${root}bin/detour`, ...args);
  const fw1 = async (): Promise<NodeView | undefined> => {
    const { code, stdout } = await detour('get', 'nodes', '-o', 'json');
    return code === 0 ? (JSON.parse(stdout) as NodeView[]).find((row) => row.name === 'fw1') : undefined;
  };
  const isUp = async (): Promise<boolean> =>
    (await fw1())?.health.every(({ state }) => state === 'up') === true;
  const startDaemon = (kind: 'bird' | 'frr'): ReturnType<Lab['spawn']> => {
    const dir = join(lab.dir, kind);
    mkdirSync(dir, { recursive: true });
    execFileSync('chmod', ['a+rwx', dir]);
    const file = (suffix: string): string => join(dir, suffix);
    writeFileSync(file('conf'), blocksOf('docs/attach-a-node.md', kind)[0] ?? '');
    const argv =
      kind === 'bird'
        ? ['bird', '-f', '-c', file('conf'), '-s', file('ctl'), '-P', file('pid')]
        : [
            '/usr/lib/frr/bfdd',
            '-f',
            file('conf'),
            '--bfdctl',
            file('sock'),
            '--vty_socket',
            dir,
            '-z',
            file('zserv'),
            '-i',
            file('pid'),
            '-P',
            '0',
            '--log',
            'stdout',
          ];
    return lab.spawn('fw1', argv, { name: kind });
  };

  it('says what is missing, and starts nothing', async () => {
    const without = await make('up');
    expect(without.code).not.toBe(0);
    expect(without.stderr).toContain('no intent given: make up INTENT=my.yaml');
    writeFileSync(join(lab.dir, 'bad.yaml'), 'apiVersion: detour/v1\nvrfz: []\n');
    const refused = await make('up', `INTENT=${join(lab.dir, 'bad.yaml')}`);
    expect(refused.stderr).toMatch(/bad\.yaml:2:1.*vrfz[\s\S]*nothing was started/);
    const unknown = await make('up', `INTENT=${intent}`, 'GATEWAY=edge7');
    expect(unknown.stderr).toContain('GATEWAY=one of edge1');
    expect(existsSync(join(lab.dir, 'run', 'up.json'))).toBe(false);
  });

  it('brings up the example of the README, and a node set up by its page is up', async () => {
    for (const block of blocksOf('docs/attach-a-node.md', 'sh').filter((text) => !isOneCommand(text)))
      await lab.exec('fw1', ['bash', '-euc', block]);
    node = startDaemon('bird');
    const up = await make('up', `INTENT=${intent}`, 'GATEWAY=edge1');
    expect(up.code, up.stdout + up.stderr).toBe(0);
    expect(up.stdout).toContain('The gateway edge1 runs');
    await waitFor(isUp, { what: 'fw1 to be up, with BIRD', timeoutMs: 20_000 });
    const again = await make('up', `INTENT=${intent}`, 'GATEWAY=edge1');
    expect(again.stderr).toContain('make down first');
  });

  it('steers IPv4 and IPv6 through it', async () => {
    await using client = startTraffic(lab, 'client');
    const through = async (): Promise<number> => {
      const { stdout } = await lab.exec('fw1', ['ip', '-j', '-s', 'link', 'show', 'vxlan0']);
      return (JSON.parse(stdout) as [{ stats64: { rx: { packets: number } } }])[0].stats64.rx.packets;
    };
    for (const address of [standardAddresses.server, standardAddresses.server6]) {
      const before = await through();
      const answer = await client.httpGet({ remote: { address, port: 80 }, path: '/' });
      expect(answer, address).toMatchObject({ ok: true, status: 200 });
      expect(await through()).toBeGreaterThanOrEqual(before + 8);
    }
    const { stdout } = await detour('get', 'flows', '-o', 'json');
    expect(stdout).toContain('fw1');
  });

  it('takes FRR as well as BIRD', async () => {
    await node.stop();
    await waitFor(async () => !(await isUp()), {
      what: 'fw1 not to be up without a daemon',
      timeoutMs: 20_000,
    });
    node = startDaemon('frr');
    await waitFor(isUp, { what: 'fw1 to be up, with FRR', timeoutMs: 20_000 });
  });

  it('takes a node set up by one command instead', async () => {
    await node.stop();
    await lab.exec('fw1', [
      'sh',
      '-c',
      'ip link del vxlan0; ip rule del priority 100; ip -6 rule del priority 100',
    ]);
    await waitFor(async () => !(await isUp()), { what: 'fw1 not to be up', timeoutMs: 20_000 });
    const cwd = join(lab.dir, 'by-command');
    mkdirSync(cwd, { recursive: true });
    writeFileSync(join(cwd, 'node.yaml'), blocksOf('docs/attach-a-node.md', 'node')[0] ?? '');
    const [block = ''] = blocksOf('docs/attach-a-node.md', 'sh').filter(isOneCommand);
    const [attach = '', status = ''] = block.trim().split('\n');
    const own = { ...env, DETOUR_RUN_DIR: cwd, PATH: `${root}bin:${process.env.PATH ?? ''}` };
    node = lab.spawn('fw1', attach.split(' '), { name: 'attach', env: own, cwd });
    await waitFor(isUp, { what: 'fw1 to be up, attached by one command', timeoutMs: 20_000 });
    await waitFor(
      async () => (await lab.exec('fw1', status.split(' '), { env: own, okCodes: 'any' })).code === 0,
      {
        what: 'detour node status to say that it is up',
      },
    );
    await using client = startTraffic(lab, 'client');
    for (const address of [standardAddresses.server, standardAddresses.server6]) {
      const answer = await client.httpGet({ remote: { address, port: 80 }, path: '/' });
      expect(answer, address).toMatchObject({ ok: true, status: 200 });
    }
    const { stdout } = await lab.exec('fw1', status.split(' '), { env: own });
    expect(stdout).toMatch(/fw1 is up since/);
  });

  it('is undone by make down', async () => {
    const { started } = JSON.parse(readFileSync(join(lab.dir, 'run', 'up.json'), 'utf8')) as {
      started: { pid: number }[];
    };
    expect(started).toHaveLength(7);
    const rules = async () =>
      (await lab.exec('edge1', ['ip', 'rule'])).stdout +
      (await lab.exec('edge1', ['ip', '-6', 'rule'])).stdout;
    expect(await rules()).toContain('iif dtr');
    const down = await make('down');
    expect(down.code, down.stderr).toBe(0);
    const left = started.filter(({ pid }) => existsSync(`/proc/${pid}/exe`)); // what has ended has none
    expect(left).toEqual([]);
    const { stdout } = await lab.exec('edge1', ['ip', '-j', 'link', 'show']);
    const links = JSON.parse(stdout) as { ifname: string; ifalias?: string; xdp?: unknown }[];
    expect(links.filter(({ ifalias, xdp }) => ifalias === 'detour' || xdp !== undefined)).toEqual([]);
    expect((await lab.exec('edge1', ['nft', 'list', 'tables'])).stdout).not.toContain('detour');
    expect(await rules()).not.toContain('dtr');
    expect(existsSync(`/sys/fs/bpf/detour/${name}-edge1`)).toBe(false);
    expect((await make('down')).stdout).toContain('nothing is up');
  });
});
