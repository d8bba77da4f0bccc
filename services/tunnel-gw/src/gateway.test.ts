// SPDX-License-Identifier: Apache-2.0
// The gateway on a real kernel: in a namespace of its own, with a service node's machine beside it.
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { linkProgramId, openXdpLink, requireFeatures } from '@detour/bpf';
import { abi, type ChainRow, HealthState, type RuleRow } from '@detour/contracts';
import { silentLog, systemClock } from '@detour/core';
import { createLab, type Lab, type LabSpec, startCapture, startRawSender } from '@detour/lab';
import { until as poll, revisionOf } from '@detour/testkit';
import { buildFrame } from '@detour/wire';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import { enableForwarding, ensureDevices, removeDevices } from './devices.js';
import { unpackFlowWord } from './flow-word.js';
import { Gateway, type GatewayOptions } from './gateway.js';
import { installGuard, removeGuard } from './guard.js';
import {
  chainRow,
  EXAMPLE_PORTS,
  type ExampleText,
  enterNamespace,
  exampleText,
  flowQuestion,
  mountBpffs,
  pathRow,
  ruleRow,
} from './testdata.js';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const name = `gwt-${process.pid}`;
const bpffs = `/run/detour-${name}`;

const spec: LabSpec = {
  namespaces: { edge: {}, wire: { bridges: [{ name: 'br0' }] }, fw: {} },
  links: [
    {
      a: { ns: 'edge', device: 'eth0', addresses: ['192.0.2.1/24'] },
      b: { ns: 'wire', device: 'u0', bridge: 'br0' },
    },
    {
      a: { ns: 'fw', device: 'eth0', addresses: ['192.0.2.11/24', '192.0.2.12/24'] },
      b: { ns: 'wire', device: 'u1', bridge: 'br0' },
    },
    { a: { ns: 'edge', device: 'eth1', addresses: ['10.1.0.1/24'] }, b: { ns: 'wire', device: 'e1' } },
    { a: { ns: 'edge', device: 'eth2', addresses: ['198.51.100.1/24'] }, b: { ns: 'wire', device: 'e2' } },
  ],
};

let lab: Lab;
let mounted: Disposable;
let revisions = 0;
const open = new Set<Gateway>();

beforeAll(async () => {
  execFileSync('flock', [`${REPOSITORY}datapath/Makefile`, 'make', '-s', '-C', `${REPOSITORY}datapath`]);
  lab = await createLab(spec, { name });
  mounted = mountBpffs(bpffs);
  enterNamespace(lab.netns('edge'));
});
afterEach(async () => {
  for (const gateway of open) await close(gateway);
  for (const pins of readdirSync(bpffs).filter((entry) => !entry.endsWith('.debug')))
    rmSync(join(bpffs, pins), { recursive: true }); // what is not pinned is detached
});
afterAll(async () => {
  mounted[Symbol.dispose]();
  await lab.close();
});

/** On a busy machine a process that is started takes a second. */
const until: typeof poll = (probe, options) => poll(probe, { timeoutMs: 20_000, ...options });

const ip = (...args: string[]) => execFileSync('ip', args).toString();
const guardedNow = () =>
  execFileSync('nft', ['list', 'set', 'inet', 'detour_guard', 'guarded'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString();
const isUp = (device: string) => / state UP /.test(ip('link', 'show', device));

/** What the kernel tells of links, addresses and routes until the answer is called for. */
function spawnMonitor(): () => Promise<string[]> {
  const child = spawn('ip', ['-o', 'monitor', 'link', 'address', 'route'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return async () => {
    ip('link', 'add', 'mark0', 'type', 'veth', 'peer', 'name', 'mark1'); // what came before this has been told
    await until(() => text.includes('mark0'));
    child.kill();
    ip('link', 'del', 'mark0');
    return text.split('\n').filter((line) => line !== '' && !line.includes('mark'));
  };
}

interface Seen {
  readonly published: number[];
  readonly refused: string[];
  readonly troubles: Map<string, string>;
}

type Started = Gateway & { readonly seen: Seen };

async function start(pins: string, change: Partial<GatewayOptions> = {}): Promise<Started> {
  const seen: Seen = { published: [], refused: [], troubles: new Map() };
  const gateway = await Gateway.start({
    name: 'edge1',
    objectPath: `${REPOSITORY}datapath/build/edge.bpf.o`,
    pinDir: join(bpffs, pins),
    maxFlows: 1024,
    maxEmbryos: 1024,
    ruleLines: 4096,
    lookupByRules: false,
    guardDevices: [],
    sysctlDir: '/proc/sys',
    decideWithinMs: 20,
    resolveWithinMs: 500,
    sweepEveryMs: 60_000,
    flowLogPath: '',
    flowLogRate: 1000,
    flowsAlarm: 90,
    slotWorker: new URL('../dist/slot-worker.js', import.meta.url),
    puntRate: 1000,
    puntBurst: 1000,
    beginRate: 0,
    beginBurst: 1,
    askShare: 0,
    clock: systemClock(),
    log: silentLog,
    signal: new AbortController().signal,
    ask: () => Promise.reject(new Error('no controllers here')),
    onPublished: (set) => seen.published.push(set.model.revision),
    onRefused: (revision, why) => seen.refused.push(`${revision}: ${why}`),
    onTrouble: (code, text) => (text === null ? seen.troubles.delete(code) : seen.troubles.set(code, text)),
    onRepin: () => {},
    onRefresh: () => {},
    onEnded: () => {},
    lookOrCreate: async (offers) => offers.map(() => ({ ok: false, why: 'no Redis here' })),
    lookUp: async (keys) => keys.map(() => ({ ok: false, why: 'no Redis here' })),
    redisConnected: () => false,
    claims: {
      claim: async (claims) => claims.map(() => ({ ok: false, why: 'no Redis here' })),
      holders: async (keys) => keys.map(() => ({ ok: false, why: 'no Redis here' })),
      extend: async () => 0,
    },
    onSwept: () => {},
    onUnrecorded: () => {},
    ...change,
  });
  open.add(gateway);
  return Object.assign(gateway, { seen });
}

async function close(gateway: Gateway): Promise<void> {
  open.delete(gateway);
  await gateway[Symbol.asyncDispose]();
}

interface Version extends ExampleText {
  readonly chains?: readonly ChainRow[];
  readonly ruleRows?: readonly RuleRow[];
}

/** Offers a whole revision, as main.ts does when its three parts have come; returns its number. */
function offer(gateway: Gateway, version: Version = {}): number {
  const revision = ++revisions;
  const number = { revision, epoch: 'e', sequence: BigInt(revision) };
  gateway.book.offerModel(gatewayModel(revisionOf(exampleText(version), { revision }), 'edge1'), 'e');
  expect(gateway.book.offerRules(version.ruleRows ?? [ruleRow()], number)).toEqual({ ok: true });
  expect(gateway.book.offerPaths(version.chains ?? [chainRow()], number)).toEqual({ ok: true });
  expect(gateway.tablesChanged()).toBeNull();
  return revision;
}

async function run(gateway: Started, version: Version = {}): Promise<void> {
  const revision = offer(gateway, version);
  await until(() => gateway.core.running?.model.revision === revision, {
    what: `revision ${revision} is live`,
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}; refused: ${gateway.seen.refused.join()}`);
  });
  await gateway.core.networkChanged(); // after the clean-up that follows it
}

function health(gateway: Gateway, states: Record<string, HealthState>): void {
  const nodes = Object.entries(states).map(([node, state]) => ({
    node,
    vrf: 'red',
    state,
    source: 'bfd',
    why: '',
    atMonoNs: 0n,
  }));
  if (gateway.health.take(true, nodes).length > 0) gateway.core.healthChanged();
}

const UP = { fw1: HealthState.UP, fw2: HealthState.UP };

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Rows as the datapath finds them now. */
const liveChain = ({ datapath }: Gateway, number: number) =>
  abi.chain.decode(
    datapath.map('chains').lookup(u32(datapath.readBank() * abi.DetourLimit.DT_MAX_CHAINS + number)) ??
      new Uint8Array(),
  );
const livePath = ({ datapath }: Gateway, number: number) =>
  abi.path.decode(
    datapath.map('paths').lookup(u32(datapath.readBank() * abi.DetourLimit.DT_MAX_PATHS + number)) ??
      new Uint8Array(),
  );
const liveHop = ({ datapath }: Gateway, number: number) =>
  abi.hop.decode(
    datapath.map('hops').lookup(u32(datapath.readBank() * abi.DetourLimit.DT_MAX_HOPS + number)) ??
      new Uint8Array(),
  );
const livePort = ({ datapath }: Gateway, device: string) => {
  const ifindex = Number(ip('-o', 'link', 'show', device).split(':')[0]);
  const row = datapath
    .map('ports')
    .lookup(abi.portKey.encode({ ifindex, vlan: 0, inner: 0, bank: datapath.readBank() }));
  return row === undefined ? null : abi.port.decode(row);
};

describe('the machine', () => {
  it('makes devices once, touches nothing that is right, and no device that is not its own', async () => {
    const vti = {
      device: 'vti-x',
      inner: 'dtn99',
      mac: '02:44:54:00:00:63',
      addresses: ['169.254.9.1/30'],
      mtu: 1450,
      noArp: false,
      peers: [],
    };
    const made = await ensureDevices([vti]);
    expect(made.get('vti-x')).toMatchObject({
      ours: true,
      mac: vti.mac,
      mtu: 1450,
      addresses: expect.arrayContaining(vti.addresses),
    });
    expect(ip('-d', 'link', 'show', 'vti-x')).toContain('alias detour');
    const index = made.get('vti-x')?.ifindex;
    const changes = spawnMonitor();
    expect((await ensureDevices([vti])).get('vti-x')?.ifindex).toBe(index);
    const other = await ensureDevices([{ ...vti, addresses: ['169.254.9.5/30'], mtu: 1400 }]);
    expect(other.get('vti-x')).toMatchObject({ ifindex: index, mtu: 1400 });
    expect(ip('-4', 'address', 'show', 'vti-x')).not.toContain('169.254.9.1/');
    const lines = await changes();
    expect(lines.filter((line) => line.includes('169.254.9.1/30')).length).toBe(1); // only its removal

    const l3 = { ...vti, device: 'vti-y', inner: 'dtn98', noArp: true, peers: ['169.254.9.2'] };
    expect((await ensureDevices([vti, l3])).get('vti-y')).toMatchObject({ noArp: true });
    expect(ip('neigh', 'show', 'dev', 'vti-y')).toContain(`169.254.9.2 lladdr ${vti.mac} PERMANENT`);
    expect((await ensureDevices([vti, { ...l3, noArp: false, peers: [] }])).get('vti-y')).toMatchObject({
      noArp: false,
    });

    ip('link', 'add', 'mine', 'type', 'veth', 'peer', 'name', 'mine2');
    await expect(ensureDevices([{ ...vti, device: 'mine' }])).rejects.toThrow(
      /device mine exists and is not Detour's: rename it, or the node or port that needs this name/,
    );
    ip('link', 'set', 'dev', 'mine', 'group', '1146376775');
    await expect(removeDevices(new Set())).rejects.toThrow(
      /device mine is in device group 1146376775, .* group default/,
    );
    expect(ip('-o', 'link', 'show')).toContain('vti-x@');
    ip('link', 'set', 'dev', 'mine', 'group', 'default');
    expect(await removeDevices(new Set())).toEqual(['vti-x', 'vti-y']);
    expect(await removeDevices(new Set())).toEqual([]);
    expect(ip('-o', 'link', 'show')).toContain('mine@');
    expect(ip('-o', 'link', 'show')).toContain('dt-inject');
    ip('link', 'del', 'mine');
  });

  it('the guard drops what the kernel would forward across its devices, and nothing else', async () => {
    await installGuard(['eth1']);
    const dropped = () =>
      [
        ...execFileSync('nft', ['list', 'table', 'inet', 'detour_guard'])
          .toString()
          .matchAll(/packets (\d+)/g),
      ].reduce((sum, [, packets]) => sum + Number(packets), 0);
    ip('route', 'replace', '203.0.113.0/24', 'dev', 'eth2');
    ip('neigh', 'replace', '203.0.113.9', 'dev', 'eth2', 'lladdr', '02:00:00:00:09:09');
    const mac = JSON.parse(ip('-j', 'link', 'show', 'eth1'))[0].address;
    enableForwarding(['eth1', 'eth2']);
    await using sender = await startRawSender(lab, 'wire', 'e1');
    const frame = buildFrame({
      dstMac: mac,
      src: '10.1.0.77',
      dst: '203.0.113.9',
      transport: { kind: 'udp', srcPort: 1, dstPort: 2 },
    });
    await until(async () => {
      await sender.send([frame]);
      return dropped() > 0;
    });
    await installGuard(['eth5'], { keep: true }); // what a predecessor guarded stays guarded
    expect(guardedNow()).toMatch(/"eth1"[\s\S]*"eth5"/);
    await installGuard(['eth5']);
    expect(guardedNow()).not.toContain('"eth1"');
    const before = dropped();
    await using capture = await startCapture(lab, 'wire', 'e2', { filter: 'udp' });
    await sender.send([frame]);
    await until(() => capture.packets().length > 0);
    expect(dropped()).toBe(before);
    ip('route', 'del', '203.0.113.0/24');
    await removeGuard();
    expect(() => guardedNow()).toThrow();
  });

  it('names what a kernel lacks, and the remedy', () => {
    const lacking = {
      feature: 'XDP links',
      present: false,
      detail: 'no struct bpf_xdp_link in BTF',
      remedy: 'boot Linux 5.9 or newer',
    };
    expect(() => requireFeatures([lacking])).toThrow(
      'this machine lacks XDP links (no struct bpf_xdp_link in BTF): boot Linux 5.9 or newer',
    );
  });
});

describe('a gateway on a kernel', () => {
  it('rules go into the half that is not live, and go live with their bank; what changes no rules stays where it is', async () => {
    const gateway = await start('halves');
    await run(gateway);
    const { datapath, core } = gateway;
    const asked = flowQuestion();
    const ruleNow = () => core.liveTables?.rules.lookup(asked.tuple, asked.port)?.rule;
    const half = datapath.ruleHalves.liveHalf();
    expect([half, ruleNow()]).toEqual([expect.toBeOneOf([1, 2]), 1]);
    const bank = datapath.readBank();
    health(gateway, { fw1: HealthState.DOWN });
    expect([datapath.readBank(), datapath.ruleHalves.liveHalf()]).toEqual([1 - bank, half]);
    const rows = [ruleRow(), ruleRow({ number: 2, priority: 4_000_000_000 })];
    const version = { epoch: 'e', sequence: 900n, revision: core.running?.model.revision ?? 0 };
    expect(gateway.take(gateway.book.offerRules(rows, version))).toEqual({ ok: true });
    expect([datapath.ruleHalves.liveHalf(), ruleNow()]).toEqual([3 - half, 2]);
  });

  it('makes devices, guards, attaches and publishes a first revision', async () => {
    const gateway = await start('first', { guardDevices: ['eth9'] });
    expect(guardedNow()).toContain('"eth9"');
    expect(gateway.datapath.live).toBe(false);
    await run(gateway);
    expect(gateway.seen.refused).toEqual([]);
    expect(gateway.datapath.live).toBe(true);
    expect(ip('-o', 'address', 'show', 'vti-fw1')).toContain('169.254.1.1/30');
    expect(
      gateway.datapath.ports
        .attachments()
        .map((row) => row.device)
        .sort(),
    ).toEqual(['dt-injectx', 'dtn1', 'dtn2', 'eth0', 'eth1', 'eth2', 'vti-fw1', 'vti-fw2'].sort());
    expect(livePort(gateway, 'eth1')).toMatchObject({
      kind: abi.PortKind.PORT_INTERNAL,
      table: 100,
      flags: abi.PortFlag.PORT_CLASSIFY | abi.PortFlag.PORT_INSIDE,
    });
    for (const device of ['eth1', 'eth2', 'eth9', 'vti-fw1', 'vti-fw2'])
      expect(guardedNow()).toContain(`"${device}"`);
    expect(liveChain(gateway, 1)).toMatchObject({ valid: 1, nslots: 0 }); // nobody has said that a node is up
  });

  it('a revision that changes rules alone is in force at once, and leaves the machine alone', async () => {
    const gateway = await start('rules');
    await run(gateway);
    const changes = spawnMonitor();
    const { rulesGen } = gateway.datapath;
    const revision = offer(gateway, { ruleRows: [ruleRow({ name: 'other' })] });
    expect(gateway.core.running?.model.revision).toBe(revision); // in the same turn
    expect(gateway.datapath.rulesGen).toBe(rulesGen + 1); // records look at the rules again
    offer(gateway, { chains: [chainRow({ paths: [pathRow(1, [1], 5), pathRow(2, [2])] })] });
    expect(livePath(gateway, 1).state).toBe(abi.PathState.PATH_UP);
    expect((await changes()).filter((line) => !line.includes('neigh'))).toEqual([]);
  });

  it('resolves the ways to its nodes, and asks again after a link was down', async () => {
    const gateway = await start('ways');
    await run(gateway);
    const mac = JSON.parse((await lab.exec('fw', ['ip', '-j', 'link', 'show', 'eth0'])).stdout)[0].address;
    await until(() => gateway.neighbours.macOf('eth0', '192.0.2.11') === mac);
    // The inner peer answers nobody here, so the row to steer by is not usable, and the one of the VTI is.
    expect(liveHop(gateway, 1).mtu).toBe(0);
    expect(liveHop(gateway, 4097).mtu).toBe(1500 - 50);
    const [fw1] = gateway.core.running?.model.nodes ?? [];
    expect(fw1 && gateway.ways.explain(fw1)).toMatch(/169.254.1.2 does not answer/);

    ip('link', 'set', 'eth0', 'down');
    await until(() => liveHop(gateway, 4097).mtu === 0);
    ip('link', 'set', 'eth0', 'up');
    await until(() => isUp('eth0'));
    await until(() => liveHop(gateway, 4097).mtu === 1450);
  });

  it('puts health into the tables before it returns, and moves the generation', async () => {
    const gateway = await start('health');
    await run(gateway);
    health(gateway, UP);
    expect(livePath(gateway, 1).state).toBe(abi.PathState.PATH_UP);
    const { gen, nslots } = liveChain(gateway, 1);
    expect(nslots).toBeGreaterThan(0);
    health(gateway, { ...UP, fw1: HealthState.DOWN });
    expect(livePath(gateway, 1).state).toBe(abi.PathState.PATH_DOWN);
    expect(livePath(gateway, 2).state).toBe(abi.PathState.PATH_UP);
    expect(liveChain(gateway, 1).gen).toBe(gen + 1);
    expect(new Set(gateway.core.liveTables?.chains.get(1)?.slots)).toEqual(new Set([2]));
    health(gateway, { ...UP, fw1: HealthState.DOWN });
    expect(liveChain(gateway, 1).gen).toBe(gen + 1);
  });

  it('a device that goes away takes its own rows and nothing else; back again, it is a port again', async () => {
    const gateway = await start('gone');
    await run(gateway);
    health(gateway, UP);
    const before = livePort(gateway, 'eth2');
    expect(before).not.toBeNull();
    ip('link', 'del', 'eth2');
    await until(() => gateway.seen.troubles.get('device_missing'));
    expect(gateway.seen.troubles.get('device_missing')).toMatch(/device eth2 of port outside does not exist/);
    health(gateway, { ...UP, fw1: HealthState.DOWN }); // failover goes on
    expect(livePath(gateway, 1).state).toBe(abi.PathState.PATH_DOWN);
    expect(livePort(gateway, 'eth1')).toMatchObject({ kind: abi.PortKind.PORT_INTERNAL });
    expect(gateway.datapath.ports.attachments().map((row) => row.device)).not.toContain('eth2');

    ip('link', 'add', 'eth2', 'type', 'veth', 'peer', 'name', 'e2');
    ip('link', 'set', 'e2', 'netns', lab.netns('wire'));
    ip('link', 'set', 'eth2', 'up');
    await until(() => livePort(gateway, 'eth2')?.kind === abi.PortKind.PORT_UPLINK);
    expect(gateway.datapath.ports.attachments().map((row) => row.device)).toContain('eth2');
    expect(gateway.seen.troubles.size).toBe(0);
  });

  it('a VTI that somebody deletes is made again', async () => {
    const gateway = await start('vti');
    await run(gateway);
    ip('link', 'del', 'vti-fw2');
    await until(() => ip('-o', 'link', 'show').includes('vti-fw2@') && livePort(gateway, 'dtn2') !== null);
    expect(ip('-o', 'address', 'show', 'vti-fw2')).toContain('169.254.2.1/30');
  });

  it('a revision without a node and a port takes their devices and programs away', async () => {
    const gateway = await start('less');
    await run(gateway);
    ip('link', 'add', 'dt-x', 'type', 'veth', 'peer', 'name', 'dt-y');
    await run(gateway, {
      nodes: ['fw1'],
      ports: EXAMPLE_PORTS.slice(0, 1),
      chains: [chainRow({ paths: [pathRow(1, [1])] })],
    });
    expect(ip('-o', 'link', 'show')).not.toContain('vti-fw2');
    expect(ip('-o', 'link', 'show')).toContain('dt-x@'); // not Detour's
    expect(gateway.datapath.ports.attachments().map((row) => row.device)).not.toContain('eth2');
    expect(ip('link', 'show', 'eth2')).not.toContain('xdp');
    expect(livePort(gateway, 'eth2')).toBeNull();
    expect(guardedNow()).not.toContain('"eth2"');
    expect(livePath(gateway, 2)).toMatchObject({ state: abi.PathState.PATH_NONE, nhops: 0 });
    ip('link', 'del', 'dt-x');
  });

  it('refuses a revision whose device is missing, changes nothing, and takes it up when the device appears', async () => {
    const gateway = await start('missing');
    await run(gateway);
    health(gateway, UP);
    const live = gateway.core.running;
    const before = ip('-o', 'link', 'show');
    const refused = offer(gateway, {
      nodes: ['fw1', 'fw2', 'fw3'],
      ports: [...EXAMPLE_PORTS, '{ name: dmz, kind: internal, device: eth7, vrf: red, classify: true }'],
    });
    await until(() => gateway.seen.refused.length > 0);
    expect(gateway.seen.refused).toEqual([
      `${refused}: not_found: device eth7 of port dmz does not exist on this machine: create it, or correct the intent`,
    ]);
    expect(gateway.core.running).toBe(live);
    expect(ip('-o', 'link', 'show')).toBe(before);
    health(gateway, { ...UP, fw2: HealthState.DOWN }); // the revision in force lives on
    expect(livePath(gateway, 2).state).toBe(abi.PathState.PATH_DOWN);

    ip('link', 'add', 'eth7', 'type', 'veth', 'peer', 'name', 'e7');
    await until(() => gateway.core.running?.model.revision === refused);
    expect(livePort(gateway, 'eth7')).not.toBeNull();
    await run(gateway);
    ip('link', 'del', 'eth7');
  });

  it('where rules look VRFs up: they go before their revision, come back when taken away, and end with it', async () => {
    const rulesNow = () =>
      ['-4', '-6'].map((family) =>
        ip('-N', family, 'rule', 'show')
          .split('\n')
          .flatMap((line) => /iif (dtr\d+ .*)/.exec(line)?.[1] ?? []),
      );
    const of = (table: number) => [`dtr${table} lookup ${table}`, `dtr${table} 7`];
    const tableNow = (gateway: Gateway) => {
      const row = Uint32Array.of(gateway.datapath.readBank() * abi.DetourLimit.DT_MAX_NODES + 1);
      const value = gateway.datapath.map('node_tunnels').lookup(new Uint8Array(row.buffer));
      return value === undefined ? 0 : abi.tunnel.decode(value).table;
    };
    const indexOf = (device: string) => JSON.parse(ip('-j', 'link', 'show', device))[0].ifindex;

    const gateway = await start('rules', { lookupByRules: true });
    await run(gateway);
    expect(rulesNow()).toEqual([of(100), of(100)]);
    expect(tableNow(gateway)).toBe(indexOf('dtr100'));
    ip('-6', 'rule', 'del', 'priority', '0', 'iif', 'dtr100', 'lookup', '100');
    await until(() => rulesNow()[1]?.length === 2, { what: 'the rule that somebody took away' });
    ip('link', 'del', 'dtr100');
    await until(() => tableNow(gateway) !== 0 && ip('link').includes('dtr100'), { what: 'its device' });
    await until(() => tableNow(gateway) === indexOf('dtr100'), { what: 'the row that names it' });

    await run(gateway, { table: 200 });
    expect(rulesNow()).toEqual([of(200), of(200)]);
    expect(tableNow(gateway)).toBe(indexOf('dtr200'));
    expect(ip('link')).not.toContain('dtr100');
    await close(gateway);
    expect(rulesNow()).toEqual([of(200), of(200)]); // packets go on

    const same = await start('rules', { lookupByRules: true });
    expect(same.datapath.live).toBe(true);
    await run(same, { table: 200 });
    await close(same);
    const other = await start('rules');
    expect(other.datapath.takenOver).toBe(true);
    expect(other.datapath.live).toBe(false); // its predecessor's rows mean something else here
    await run(other, { table: 200 });
    expect(tableNow(other)).toBe(200);
    expect(rulesNow()).toEqual([[], []]);
    expect(ip('link')).not.toContain('dtr');
  });

  it('a revision that is refused half-way leaves devices, addresses, programs and guard as they were', async () => {
    const gateway = await start('half');
    await run(gateway);
    health(gateway, UP);
    ip('link', 'add', 'eth8', 'mtu', '9000', 'type', 'veth', 'peer', 'name', 'e8', 'mtu', '9000');
    ip('link', 'set', 'eth8', 'up');
    const seen = () => ({
      links: JSON.parse(ip('-j', 'address', 'show'))
        .filter(({ ifname }: { ifname: string }) => ifname.startsWith('vti-'))
        .map(({ ifname, addr_info }: { ifname: string; addr_info: { local: string }[] }) => [
          ifname,
          addr_info.map(({ local }) => local).filter((local) => !local.startsWith('fe80')),
        ]),
      guarded: guardedNow(),
      attached: gateway.datapath.ports
        .attachments()
        .map(({ device }) => device)
        .sort(),
    });
    const before = seen();
    const live = gateway.core.running;
    const refused = offer(gateway, {
      nodes: ['fw2', 'fw1', 'fw3'], // their inner addresses change places
      ports: [
        ...EXAMPLE_PORTS,
        '{ name: jumbo, kind: internal, device: eth8, vrf: red, classify: true, attachMode: native }',
      ],
    });
    await until(() => gateway.seen.refused.length > 0);
    expect(gateway.seen.refused[0]).toMatch(new RegExp(`^${refused}: .*eth8`));
    expect(gateway.core.running).toBe(live);
    expect(seen()).toEqual(before);
    expect(gateway.seen.troubles.has('cleanup_failed')).toBe(false);
    health(gateway, { ...UP, fw2: HealthState.DOWN }); // the revision in force lives on
    expect(livePath(gateway, 2).state).toBe(abi.PathState.PATH_DOWN);
    ip('link', 'del', 'eth8');
  });

  it('a successor takes over flows, links and generations; packets never meet a device without its program', async () => {
    const first = await start('successor');
    await run(first);
    health(first, UP);
    expect(first.flows.install(flowQuestion(), decision(2), first.datapath.rulesGen)).toBe(true);
    const held = first.flows.read(flowQuestion().key)?.flow;
    const { gen } = liveChain(first, 1);
    const pin = join(first.datapath.pinDir, 'links', 'eth1');
    using linkBefore = openXdpLink(pin);
    const programBefore = linkProgramId(linkBefore);
    await close(first);
    expect(ip('link', 'show', 'eth1')).toContain('xdp');

    const second = await start('successor');
    expect(second.datapath.takenOver).toBe(true);
    expect(second.datapath.live).toBe(true); // the predecessor's tables stay in force until the next version
    expect(second.flows.read(flowQuestion().key)?.flow).toEqual(held);
    expect(second.slots.available).toBe(second.slots.capacity - 2);
    expect(guardedNow()).toContain('"eth2"'); // named by the predecessor's revision alone
    health(second, UP);
    await run(second);
    using linkAfter = openXdpLink(pin);
    expect(linkAfter.ifindex).toBe(linkBefore.ifindex);
    expect(linkProgramId(linkBefore)).toBe(linkProgramId(linkAfter)); // one and the same link,
    expect(linkProgramId(linkAfter)).not.toBe(programBefore); // which runs the successor's program
    expect(liveChain(second, 1).gen).toBe(gen + 1);
    expect(livePath(second, 2).state).toBe(abi.PathState.PATH_UP);
    expect(unpackFlowWord(second.flows.read(flowQuestion().key)?.flow.word ?? 0n).path).toBe(2);
    const slots = new Set<number>();
    while (second.slots.available > 0) slots.add(second.slots.take(0));
    expect(slots.has(held?.slot ?? -1)).toBe(false);
  });

  it('a port that a predecessor left attached, and that nobody wants any more, is detached', async () => {
    const first = await start('left');
    await run(first);
    await close(first);
    const second = await start('left');
    await run(second, { ports: EXAMPLE_PORTS.slice(0, 1) });
    expect(ip('link', 'show', 'eth2')).not.toContain('xdp');
    expect(ip('link', 'show', 'eth1')).toContain('xdp');
  });

  it('in a chain of many paths a node that goes is left at once, and the slots follow', async () => {
    const nodes = Array.from({ length: 20 }, (_, i) => (i < 9 ? `fw${i + 1}` : `g${i + 1}`));
    const allBut = (down: string) =>
      Object.fromEntries(nodes.map((node) => [node, node === down ? HealthState.DOWN : HealthState.UP]));
    const gateway = await start('many');
    health(gateway, allBut(''));
    const row = chainRow({ paths: nodes.map((_, i) => pathRow(i + 1, [i + 1])) });
    await run(gateway, { nodes, chains: [row] });
    const { gen } = liveChain(gateway, 1);
    const slots = gateway.decisions.chainOf(1)?.slots ?? new Uint16Array();
    expect(slots.includes(3)).toBe(true);
    health(gateway, allBut('fw3'));
    expect(livePath(gateway, 3).state).toBe(abi.PathState.PATH_DOWN);
    expect(liveChain(gateway, 1).gen).toBe(gen + 1);
    expect(gateway.decisions.chainOf(1)?.slots).toBe(slots);
    await until(() => gateway.decisions.chainOf(1)?.slots.includes(3) === false);
    expect(liveChain(gateway, 1).gen).toBe(gen + 2);
    health(gateway, allBut(''));
    expect(livePath(gateway, 3).state).toBe(abi.PathState.PATH_UP);
    expect(gateway.decisions.chainOf(1)?.slots).toEqual(slots); // as it was: remembered
    const revision = offer(gateway, { nodes, chains: [{ ...row, paths: row.paths.slice(1) }] });
    expect(gateway.core.running?.model.revision).not.toBe(revision); // other paths: live when its slots are there
    await until(() => gateway.core.running?.model.revision === revision);
    expect(gateway.decisions.chainOf(1)?.slots.includes(1)).toBe(false);
    expect(gateway.seen.refused).toEqual([]);
  });
});

function decision(path: number) {
  return {
    action: 'steer' as const,
    rule: 1,
    chain: 1,
    path,
    initiatorIsB: false,
    pinGen: 1,
    recorded: true,
    by: 'controller' as const,
    why: '',
  };
}
