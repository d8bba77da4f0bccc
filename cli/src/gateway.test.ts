// SPDX-License-Identifier: Apache-2.0
// Commands that ask gateways and their bfd: a real NATS server, and gRPC servers that answer with known rows.
import {
  BfdService,
  BfdSession,
  FlowRow,
  GatewayService,
  GatewayStatus,
  type GetFlowsRequest,
  HealthState,
  type SetAdminDownRequest,
  stateKey,
  type TraceRequest,
} from '@detour/contracts';
import { Fault, formatAddress, parseAddress, silentLog } from '@detour/core';
import { implement, type RpcServer, serve, serverStream, unary } from '@detour/rpc';
import { type NatsServer, startNats } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, openCluster } from './cluster.js';
import { EXIT } from './exit-codes.js';
import { quietConsoleAt, runAt } from './testdata.js';

let nats: NatsServer;
let cluster: Cluster;
let gateway: RpcServer;
const traced: TraceRequest[] = [];
const adminDowns: SetAdminDownRequest[] = [];

const run = (args: readonly string[]) => runAt(nats.url, args);

const address = (text: string): Uint8Array => parseAddress(text) ?? new Uint8Array();
const tuple = {
  vrf: 1,
  src: address('10.0.0.1'),
  dst: address('10.0.9.9'),
  sport: 1234,
  dport: 80,
  proto: 6,
};

const flow = FlowRow.fromPartial({
  tuple,
  action: 'steer',
  rule: 'web',
  chain: 'inspect',
  path: 1,
  nodes: ['fw1'],
  packetsForward: 3n,
  packetsReverse: 2n,
  ageMs: 61_000n,
  idleMs: 5n,
});

const asked: GetFlowsRequest[] = [];

const gatewayService = implement(GatewayService, {
  trace: unary((request: TraceRequest) => {
    if (request.port === 'nowhere')
      throw new Fault('not_found', 'there is no port "nowhere": ports are inside');
    traced.push(request);
    return {
      steps: [{ step: 'port', found: 'inside', why: 'eth1 untagged' }],
      verdict: 'forward',
      reason: '',
      egress: 'vti-fw1',
      node: 'fw1',
    };
  }),
  getFlows: serverStream(async function* (request) {
    asked.push(request);
    for (let i = 0; i < 3; i++) if (request.node === '' || request.node === 'fw1') yield flow;
    if (request.limit === 3) yield FlowRow.fromPartial({ leftOut: 39n });
  }),
  getStatus: unary(() =>
    GatewayStatus.fromPartial({
      gateway: 'edge1',
      connected: { redis: true },
      announced: 'yes',
      decided: { kernel: 90n, controller: 8n, 'last-tables': 2n },
      figures: {
        flows: 100n,
        'flows-limit': 262_144n,
        pinned: 95n,
        unrecorded: 3n,
        'redis-behind-ms': 12_300n,
        'redis-repins-waiting': 1n,
        'redis-batches-waiting': 2n,
        'redis-not-written': 7n,
        'redis-not-refreshed': 4n,
        'redis-conflicts': 5n,
        'redis-adopted': 6n,
      },
      ports: [
        {
          name: 'inside',
          number: 1,
          kind: 'internal',
          device: 'eth1',
          vrf: 'red',
          classify: true,
          attachMode: 'native',
          why: '',
        },
      ],
    }),
  ),
  getCounters: unary(() => ({
    drops: { rule: 7n, ttl: 0n },
    stats: {},
    ports: [
      {
        name: 'inside',
        rxPackets: 10n,
        rxBytes: 640n,
        forwarded: 3n,
        passed: 0n,
        punted: 0n,
        dropped: 7n,
        ruleLookups: 2n,
      },
    ],
    rules: [],
    examples: [{ reason: 'rule', tuple, port: 'inside', agoMs: 2000n }],
  })),
  programFlow: unary(() => {
    throw new Fault('missing_feature', 'nothing asks for it here');
  }),
  getTables: unary(() => ({ rules: [], policies: [], selections: [] })),
});

const bfdService = implement(BfdService, {
  watchHealth: serverStream(async function* () {}),
  listSessions: unary(() => ({
    sessions: [
      BfdSession.fromPartial({
        id: 'fw1',
        node: 'fw1',
        device: 'vti-fw1',
        state: 'Up',
        remoteState: 'Up',
        health: HealthState.UP,
        detectTimeUs: 150_000n,
      }),
    ],
  })),
  reportSteering: unary(() => {
    throw new Fault('missing_feature', 'tunnel-gw alone says it');
  }),
  setAdminDown: unary((request: SetAdminDownRequest) => {
    adminDowns.push(request);
    return {};
  }),
});

async function register(service: 'tunnel-gw' | 'bfd', name: string, at: string): Promise<void> {
  const value = { address: at, metrics: '', gateway: name, startedMs: Date.now(), beat: 1 };
  await cluster.state.put(stateKey.instance(service, `${name}-${service}`), value);
}

beforeAll(async () => {
  nats = await startNats();
  cluster = await openCluster(quietConsoleAt(nats.url));
  gateway = await serve({ address: '127.0.0.1:0', services: [gatewayService, bfdService], log: silentLog });
  await register('tunnel-gw', 'edge1', gateway.address);
  await register('bfd', 'edge1', gateway.address);
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

const TRACE = [
  'trace',
  '--port',
  'inside',
  '--src',
  '10.0.0.1',
  '--dst',
  '10.0.9.9',
  '--sport',
  '1234',
  '--dport',
  '80',
];

describe('trace', () => {
  it('shows each step and the verdict', async () => {
    expect(await run(TRACE)).toEqual({
      code: EXIT.ok,
      err: '',
      out: 'STEP  FOUND   WHY\nport  inside  eth1 untagged\n\nverdict: forward to node fw1 by vti-fw1\n',
    });
    const [request] = traced;
    expect(request).toMatchObject({ port: 'inside', syn: true, length: 60, ttl: 64 });
    expect(formatAddress(request?.tuple?.src ?? new Uint8Array())).toBe('10.0.0.1');
    expect(request?.tuple).toMatchObject({ sport: 1234, dport: 80, proto: 6 });
  });

  it('asks for what the flags say', async () => {
    await run([...TRACE, '--no-syn', '--ttl', '1', '--gateway', 'edge1']);
    expect(traced.at(-1)).toMatchObject({ syn: false, ttl: 1 });
    await run([...TRACE, '--proto', 'udp']);
    expect(traced.at(-1)).toMatchObject({ syn: false, tuple: { proto: 17 } });
  });

  it('tells what the gateway refuses', async () => {
    const args = TRACE.map((arg) => (arg === 'inside' ? 'nowhere' : arg));
    expect(await run(args)).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('there is no port "nowhere"'),
    });
    expect(await run([...TRACE, '--gateway', 'edge9'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('registered are edge1'),
    });
  });
});

describe('status', () => {
  it('shows how each gateway stands with its flows, Redis and routers', async () => {
    const { out } = await run(['status', '-o', 'json']);
    expect(JSON.parse(out).pins).toEqual([
      {
        ...{
          gateway: 'edge1',
          redis: true,
          flows: 100,
          flowsLimit: 262_144,
          pins: 95,
          notInRedis: 3,
          behindMs: 12_300,
          waiting: 3,
        },
        ...{
          notWritten: 11,
          conflicts: 5,
          adopted: 6,
          decided: { kernel: 90, controller: 8, 'last-tables': 2 },
          announced: 'yes',
        },
      },
    ]);
    expect((await run(['status'])).out).toMatch(
      /edge1 +answers +100\/262144 +95 +3 +13s +3 +11 +5 +6 +kernel 90, controller 8, last-tables 2 +yes/,
    );
  });
});

describe('get', () => {
  it('flows, with filters', async () => {
    const { out } = await run(['get', 'flows', '-o', 'json']);
    expect(JSON.parse(out)).toHaveLength(3);
    expect(JSON.parse(out)).toMatchObject([
      {
        gateway: 'edge1',
        source: '10.0.0.1',
        sourcePort: 1234,
        protocol: 'tcp',
        nodes: ['fw1'],
        packetsForward: 3,
        packetsReverse: 2,
      },
      {},
      {},
    ]);
    expect((await run(['get', 'flows', '--node', 'fw2'])).out).toBe('none\n');
    expect((await run(['get', 'flows'])).out).toContain(
      '10.0.0.1:1234  10.0.9.9:80  -     steer   web      1  fw1    3/2      1m 1s  5ms',
    );
  });

  it('asks the gateway for the flows that are wanted, and says how many more there are', async () => {
    const filters = [
      '--path',
      '7',
      '--chain',
      'inspect',
      '--vrf',
      'red',
      '--address',
      '10.0.0.1',
      '--limit',
      '3',
    ];
    const { code, out, err } = await run(['get', 'flows', ...filters, '-o', 'json']);
    expect([code, JSON.parse(out)]).toMatchObject([EXIT.ok, [{ path: 1 }, {}, {}]]);
    expect(JSON.parse(out)).toHaveLength(3);
    expect(err).toBe(
      'detour: edge1: 39 more flows match and are not shown: raise --limit, or narrow with --node, --path, --chain, --vrf or --address\n',
    );
    const { address: sent, ...others } = asked.at(-1) ?? expect.fail('nothing was asked');
    expect(others).toEqual({ node: '', path: '7', chain: 'inspect', vrf: 'red', limit: 3 });
    expect([...sent]).toEqual([...address('10.0.0.1')]);
    expect(await run(['get', 'flows', '--path', 'fw1'])).toMatchObject({
      code: EXIT.usage,
      err: expect.stringContaining('give a whole number from 1'),
    });
  });

  it('ports, drops and sessions', async () => {
    expect(JSON.parse((await run(['get', 'ports', '-o', 'json'])).out)).toMatchObject([
      { name: 'inside', attachMode: 'native', rxPackets: 10, dropped: 7 },
    ]);
    expect(JSON.parse((await run(['get', 'drops', '-o', 'json'])).out)).toMatchObject([
      {
        gateway: 'edge1',
        reason: 'rule',
        packets: 7,
        example: { source: '10.0.0.1', destinationPort: 80, agoMs: 2000 },
      },
    ]);
    expect(JSON.parse((await run(['get', 'sessions', '-o', 'json'])).out)).toMatchObject([
      { id: 'fw1', health: 'up', state: 'Up' },
    ]);
  });
});

describe('session', () => {
  it('tells the bfd that has it', async () => {
    expect(await run(['session', 'fw1', 'admin-down'])).toMatchObject({
      code: EXIT.ok,
      out: 'session fw1 on edge1 is admin-down\n',
    });
    expect(await run(['session', 'fw1', 'up'])).toMatchObject({ code: EXIT.ok });
    expect(adminDowns).toEqual([
      { id: 'fw1', adminDown: true },
      { id: 'fw1', adminDown: false },
    ]);
    expect(await run(['session', 'fw9', 'up'])).toMatchObject({
      code: EXIT.notFound,
      err: expect.stringContaining('sessions are fw1'),
    });
  });
});

describe('several gateways', () => {
  it('show what one says when another is silent, name it, and end with 5', async () => {
    await register('tunnel-gw', 'edge2', '127.0.0.1:1');
    const { code, out, err } = await run(['get', 'flows', '-o', 'json']);
    expect({ code, rows: JSON.parse(out) }).toMatchObject({ code: EXIT.unavailable, rows: [{}, {}, {}] });
    expect(err).toContain('tunnel-gw of edge2 at 127.0.0.1:1 does not answer');
    expect(await run(TRACE)).toMatchObject({
      code: EXIT.usage,
      err: expect.stringContaining('give --gateway one of edge1, edge2'),
    });
    expect(await run([...TRACE, '--gateway', 'edge2'])).toMatchObject({ code: EXIT.unavailable });
  });
});
