// SPDX-License-Identifier: Apache-2.0
import { abi, OnFailure, OnNodeDown, RuleAction } from '@detour/contracts';
import { type FlowKey, flowKeyText, hashKeyFromHex, normaliseTuple } from '@detour/core';
import { ReferenceRules } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import type { FlowQuestion } from './decision.js';
import { packFlowWord } from './flow-word.js';
import type { GatewayModel, NodeModel, PortModel } from './model.js';
import { addressBytes } from './row-bytes.js';
import { ipv4Number } from './snat-table.js';
import { chainRow, flowQuestion, pathRow, ruleRow } from './testdata.js';
import { tracePacket } from './trace.js';
import type { RouteAnswer, TraceAnswer, TracePacket, TraceView } from './trace-answer.js';

const port = (name: string, number: number): PortModel => ({
  name,
  number,
  kind: 'internal',
  device: `eth${number}`,
  vrf: 1,
  table: 100,
  classify: true,
  attachMode: 'auto',
  tunnel: null,
  vlan: null,
});
const node = (name: string, number: number, strictReturn = true): NodeModel => ({
  name,
  label: name,
  number,
  service: 'firewall',
  vrf: 1,
  vrfName: 'red',
  table: 100,
  protocol: 'vxlan',
  remote: `192.0.2.1${number}`,
  tag: 4000 + number,
  l3: false,
  checksum: false,
  strictReturn,
  local: `169.254.${number}.1/30`,
  peer: `169.254.${number}.2`,
  device: `vti-${name}`,
  inner: `dtn${number}`,
  mac: '02:00:00:00:00:01',
  liveness: true,
  adminDownAction: 'keep',
});
const model: GatewayModel = {
  gateway: 'edge1',
  revision: 1,
  alone: true,
  hashKey: hashKeyFromHex('00'.repeat(16)),
  underlay: { device: 'eth0', address: '192.0.2.1', attachMode: 'auto' },
  vrfs: [{ name: 'red', number: 1, table: 100 }],
  ports: [port('inside', 1), port('outside', 2), { ...port('plain', 3), classify: false }],
  nodes: [node('fw1', 1), node('fw2', 2), node('ids1', 3), node('lax', 4, false)],
  armed: [],
  servicePorts: [],
  pathNodes: new Map(),
  chainNames: new Map([[1, 'inspect']]),
  ruleNames: new Map([[1, 'web']]),
};

interface World {
  readonly rules?: readonly ReturnType<typeof ruleRow>[];
  readonly chains?: readonly ReturnType<typeof chainRow>[];
  readonly down?: readonly number[];
  readonly records?: readonly (readonly [FlowKey, abi.Flow])[];
  readonly own?: readonly string[];
  readonly route?: RouteAnswer | null;
  readonly mac?: string | null;
  readonly notReady?: string;
  readonly outdated?: 'ended' | 'not answered';
  readonly live?: boolean;
  /** SNAT address of port `outside`, and the port of it that the example flow has there. */
  readonly snat?: { readonly address: string; readonly port?: number; readonly shared?: true };
}

function view(world: World = {}): TraceView {
  const models = new ChainModels(new Map());
  const chains = world.chains ?? [chainRow({ paths: [pathRow(1, [1])] })];
  models.commit(models.draft(chains, (number) => (world.down?.includes(number) ? 'down' : 'up')));
  const records = new Map((world.records ?? []).map(([key, flow]) => [flowKeyText(key), flow]));
  const own = (world.own ?? []).map((text) => addressBytes(text).join());
  const address = (text: string) => ipv4Number(addressBytes(text));
  const { snat } = world;
  const ports = model.ports.map((one) =>
    one.name === 'outside' && snat !== undefined
      ? { ...one, snat: snat.address, ...(snat.shared && { snatShared: true as const }) }
      : one,
  );
  const bound = snat?.port === undefined ? null : { port: snat.port, address: address(snat.address) };
  const { key: exampleKey, norm } = flowQuestion();
  return {
    model: { ...model, ports },
    snat: {
      read: (key) =>
        bound === null || flowKeyText(key) !== flowKeyText(exampleKey)
          ? null
          : { ...bound, outPort: 2, innerIsB: norm === 1, scope: 0, lastNs: 0n },
      innerOf: (use, outer) =>
        bound?.port === outer && use.address === bound.address && use.remotePort === 80
          ? { address: address('10.1.0.10'), port: 40_000 }
          : null,
    },
    tables: {
      rules: new ReferenceRules(world.rules ?? [ruleRow()]),
      chains: models.all(),
      hashKey: model.hashKey,
    },
    live: world.live ?? true,
    record: (key) => {
      const flow = records.get(flowKeyText(key));
      return flow === undefined ? null : { flow, established: true };
    },
    outdated: () => world.outdated ?? null,
    isOwn: (_vrf, address) => own.includes(address.join()),
    route: async () =>
      world.route === undefined
        ? { device: 'eth2', via: '198.51.100.2', mtu: 1500, text: 'default' }
        : world.route,
    neighbour: () => (world.mac === undefined ? '02:00:00:00:00:02' : world.mac),
    hop: () => ({
      ready: world.notReady === undefined,
      why: world.notReady ?? '',
      mtu: 1450,
      device: 'eth0',
    }),
  };
}

const packetOf = ({ tuple, syn }: FlowQuestion, change: Partial<TracePacket> = {}): TracePacket => ({
  port: 'inside',
  tuple,
  syn,
  lengthBytes: 60,
  ttl: 64,
  ...change,
});
const trace = (
  world: World,
  packet: Partial<TracePacket> = {},
  question = flowQuestion(),
): Promise<TraceAnswer> => tracePacket(view(world), packetOf(question, packet));

interface Recorded {
  readonly action?: number;
  readonly path?: number;
  readonly chain?: number;
  readonly fwdPort?: number;
  readonly flags?: number;
  readonly scope?: number;
}

function record(question: FlowQuestion, r: Recorded = {}): readonly [FlowKey, abi.Flow] {
  const way = { gen: 0, ifindex: 0, dmac: new Uint8Array(6), smac: new Uint8Array(6), mtu: 0, hop: 0 };
  const word = packFlowWord({
    path: r.path ?? 1,
    initiatorIsB: question.norm === 1,
    action: r.action ?? abi.FlowAction.FLOW_STEER,
    flags: r.flags ?? 0,
    chainGen: 1,
    fpGen: 0,
  });
  const flow: abi.Flow = {
    word,
    createdNs: 1n,
    rule: 1,
    slot: 1,
    rulesGen: 0,
    chain: r.chain ?? 1,
    fwdPort: r.fwdPort ?? 1,
    entropy: 50_000,
    pinGen: 1,
    altScope: 0,
    out: [way, way],
  };
  return [{ ...question.key, scope: r.scope ?? 0 }, flow];
}

/** The same flow's packet in the other direction. */
function backwards(question: FlowQuestion): FlowQuestion {
  const { tuple } = question;
  const reply = { ...tuple, src: tuple.dst, dst: tuple.src, sport: tuple.dport, dport: tuple.sport };
  return { ...question, tuple: reply, ...normaliseTuple(reply), syn: false };
}

const step = (answer: TraceAnswer, name: string) => answer.steps.find((one) => one.step === name);

describe('tracePacket', () => {
  it('an unknown port is an answer too', async () => {
    expect((await trace({}, { port: 'nowhere' })).steps[0]).toMatchObject({ step: 'port', found: 'unknown' });
  });

  it('what is never steered passes to the kernel', async () => {
    expect(await trace({}, { ttl: 1 })).toMatchObject({ verdict: 'pass' });
    for (const dst of ['224.0.0.5', '255.255.255.255', 'ff02::1', 'fe80::1'])
      expect(
        await trace({}, {}, flowQuestion({ dst, src: dst.includes(':') ? '2001:db8::1' : '10.1.0.1' })),
      ).toMatchObject({
        verdict: 'pass',
      });
    expect(await trace({ own: ['203.0.113.9'] })).toMatchObject({ verdict: 'pass' });
  });

  it('a new flow of a rule goes to a node of its chain', async () => {
    const answer = await trace({});
    expect(answer).toMatchObject({ verdict: 'forward', node: 'fw1', egress: 'eth0', reason: '' });
    expect(answer.steps.map((one) => one.step)).toEqual([
      'port',
      'flow',
      'rule',
      'chain',
      'path',
      'hop',
      'verdict',
    ]);
    expect(step(answer, 'rule')?.found).toBe('web');
    expect(step(answer, 'path')?.found).toBe('1 = fw1');
  });

  it('a flow without a rule, or by a port that does not classify, leaves by the VRF', async () => {
    expect(await trace({ rules: [] })).toMatchObject({ verdict: 'forward', node: '', egress: 'eth2' });
    expect(await trace({}, { port: 'plain' })).toMatchObject({
      verdict: 'forward',
      node: '',
      egress: 'eth2',
    });
  });

  it.each([
    ['no route', { rules: [], route: null }, {}, 'no_route'],
    ['a rule drops', { rules: [ruleRow({ action: RuleAction.DROP })] }, {}, 'rule'],
    ['its chain does not exist', { rules: [ruleRow({ action: RuleAction.UNRESOLVED })] }, {}, 'unresolved'],
    ['a chain that is not in the tables', { rules: [ruleRow({ chain: 9 })] }, {}, 'no_table'],
    ['our own source', { own: ['10.1.0.10'] }, {}, 'spoof'],
    ['nothing is live yet', { live: false }, {}, 'not_live'],
    ['the way is not resolved', { notReady: '192.0.2.11 does not answer on eth0' }, {}, 'hop_not_ready'],
    ['too big for the tunnel', {}, { lengthBytes: 1451 }, 'too_big'],
    ['too big for the way out', { rules: [] }, { lengthBytes: 1501 }, 'too_big'],
    ['no node is up', { down: [1] }, {}, 'node_down'],
  ])('dropped: %s', async (_what, world, packet, reason) => {
    expect(await trace(world, packet)).toMatchObject({ verdict: 'drop', reason });
  });

  it('held: the next hop is not resolved', async () => {
    expect(await trace({ rules: [], mac: null })).toMatchObject({ verdict: 'punt', reason: 'neighbour' });
  });

  it('onFailure: bypass leaves, backup takes the other chain', async () => {
    const chain = chainRow({ paths: [pathRow(1, [1])], onFailure: OnFailure.BYPASS });
    expect(await trace({ chains: [chain], down: [1] })).toMatchObject({
      verdict: 'forward',
      egress: 'eth2',
      node: '',
    });
    const chains = [
      { ...chain, onFailure: OnFailure.BACKUP, backup: 2 },
      chainRow({ number: 2, name: 'spare', paths: [pathRow(9, [3])] }),
    ];
    const answer = await trace({ chains, down: [1] });
    expect(answer).toMatchObject({ verdict: 'forward', node: 'ids1' });
    expect(answer.steps.filter((one) => one.step === 'chain').map((one) => one.found)).toEqual([
      'inspect',
      'spare',
    ]);
    expect(await trace({ chains, down: [1, 3] })).toMatchObject({ verdict: 'drop', reason: 'node_down' });
  });

  it('a known flow follows its record, each direction from its own end of the path', async () => {
    const question = flowQuestion();
    const world: World = {
      chains: [chainRow({ paths: [pathRow(1, [1, 3])] })],
      records: [record(question)],
      rules: [],
    };
    expect(await trace(world, {}, question)).toMatchObject({ node: 'fw1' });
    expect(await trace(world, { port: 'outside' }, backwards(question))).toMatchObject({ node: 'ids1' });
  });

  it.each([
    [abi.FlowAction.FLOW_ALLOW, 0, { verdict: 'forward', egress: 'eth2' }],
    [abi.FlowAction.FLOW_DROP, 0, { verdict: 'drop', reason: 'rule' }],
    [
      abi.FlowAction.FLOW_DROP,
      abi.FlowWordFlag.WORD_FLAG_UNRESOLVED,
      { verdict: 'drop', reason: 'unresolved' },
    ],
    [abi.FlowAction.FLOW_PENDING, 0, { verdict: 'punt', reason: 'pending' }],
  ])('a recorded action counts, whatever the rules say now (%s, %s)', async (action, flags, want) => {
    const question = flowQuestion();
    expect(await trace({ records: [record(question, { action, flags })] }, {}, question)).toMatchObject(want);
  });

  it('a flow whose path is down moves, or waits where its chain keeps flows', async () => {
    const question = flowQuestion();
    const paths = [pathRow(1, [1]), pathRow(2, [2])];
    const records = [record(question)];
    const moved = await trace({ chains: [chainRow({ paths })], down: [1], records }, {}, question);
    expect(moved).toMatchObject({ verdict: 'forward', node: 'fw2' });
    const keep = chainRow({ paths, onNodeDown: OnNodeDown.KEEP, onFailure: OnFailure.BYPASS });
    expect(await trace({ chains: [keep], down: [1], records }, {}, question)).toMatchObject({
      reason: 'node_down',
    });
  });

  it("VTI-11: forward packets by another port than the record's have a record of their own", async () => {
    const question = flowQuestion();
    const records = [record(question, { fwdPort: 1 })];
    const other = await trace({ records }, { port: 'outside' }, question);
    expect(other.steps.filter((one) => one.step === 'flow').map((one) => one.found)).toEqual([
      'recorded for another port',
      'no record',
    ]);
    const scoped = [...records, record(question, { scope: 2, action: abi.FlowAction.FLOW_DROP })];
    expect(await trace({ records: scoped }, { port: 'outside' }, question)).toMatchObject({ reason: 'rule' });
  });

  it('what a node returns goes on along the path, or out after the last node', async () => {
    const question = flowQuestion();
    const world: World = { chains: [chainRow({ paths: [pathRow(1, [1, 3])] })], records: [record(question)] };
    expect(await trace(world, { port: 'fw1' }, question)).toMatchObject({ verdict: 'forward', node: 'ids1' });
    expect(await trace(world, { port: 'ids1' }, question)).toMatchObject({
      verdict: 'forward',
      node: '',
      egress: 'eth2',
    });
    expect(await trace(world, { port: 'ids1' }, backwards(question))).toMatchObject({ node: 'fw1' });
    expect(await trace(world, { port: 'fw1' }, backwards(question))).toMatchObject({
      egress: 'eth2',
      node: '',
    });
    expect(await trace(world, { port: 'ids1', ttl: 1 }, question)).toMatchObject({ verdict: 'pass' });
  });

  it('TUN-11: strictReturn drops what was never sent to the node', async () => {
    const question = flowQuestion();
    expect(await trace({}, { port: 'fw1' }, question)).toMatchObject({
      verdict: 'drop',
      reason: 'strict_return',
    });
    expect(await trace({ records: [record(question)] }, { port: 'fw2' }, question)).toMatchObject({
      reason: 'strict_return',
    });
    expect(await trace({}, { port: 'lax' }, question)).toMatchObject({ verdict: 'forward', egress: 'eth2' });
    expect(await trace({ own: ['10.1.0.10'] }, { port: 'lax' }, question)).toMatchObject({ reason: 'spoof' });
  });

  it('says what leaves with which source, and to whom comes back what is for a SNAT address', async () => {
    const question = flowQuestion();
    const allowed = [record(question, { action: abi.FlowAction.FLOW_ALLOW })];
    const snat = { address: '198.51.100.1', port: 50_001 };
    const found = ({ steps }: TraceAnswer) => steps.find(({ step }) => step === 'snat')?.found;
    const out = await trace({ records: allowed, snat }, {}, question);
    expect([out.verdict, found(out)]).toEqual(['forward', 'from 198.51.100.1:50001']);
    const first = await trace({ records: allowed, snat: { address: snat.address } }, {}, question);
    expect([first.verdict, found(first)]).toEqual(['forward', 'from 198.51.100.1']);
    const answer = flowQuestion({
      src: '203.0.113.9',
      dst: '198.51.100.1',
      sport: 80,
      dport: 50_001,
      syn: false,
    });
    const back = await trace({ records: [record(question)], snat }, { port: 'outside' }, answer);
    expect([found(back), back.node]).toEqual(['to 10.1.0.10:40000', 'fw1']);
    const stray = flowQuestion({ src: '203.0.113.9', dst: '198.51.100.1', sport: 80, dport: 50_002 });
    expect(await trace({ snat }, { port: 'outside' }, stray)).toMatchObject({
      verdict: 'drop',
      reason: 'snat_unknown',
    });
    const shared = { address: snat.address, shared: true } as const;
    expect(await trace({ snat: shared }, { port: 'outside' }, stray)).toMatchObject({
      verdict: 'punt',
      reason: 'snat',
    });
    const local = { snat, own: ['198.51.100.1'] };
    expect(await trace(local, { port: 'outside' }, stray)).toMatchObject({ verdict: 'pass' });
    const inbound = flowQuestion({ src: '203.0.113.9', dst: '10.1.0.10', sport: 80, dport: 40_000 });
    const began = [record(inbound, { action: abi.FlowAction.FLOW_ALLOW, fwdPort: 2 })];
    const reply = await trace({ records: began, snat: { address: snat.address } }, {}, question);
    expect([reply.verdict, found(reply)]).toEqual(['forward', 'none']);
  });
});
