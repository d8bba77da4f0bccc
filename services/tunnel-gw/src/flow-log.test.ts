// SPDX-License-Identifier: Apache-2.0
// The flow log behind the sweep, on real maps of the kernel; records and counters are written as the datapath would.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { revisionOf } from '@detour/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import type { FlowDecision } from './decision.js';
import { gatewayModel } from './desired.js';
import { BOTH_FIN } from './flow-head.js';
import { FlowLog } from './flow-log.js';
import { FlowSlots } from './flow-slots.js';
import { encodeFlowKey, type FlowTable } from './flow-table.js';
import { packFlowWord } from './flow-word.js';
import { SnatTable } from './snat-table.js';
import { sweepFlows } from './sweeper.js';
import { chainRow, type ExampleFlow, exampleText, flowQuestion, openFlowTable, pathRow } from './testdata.js';

const SEEN = abi.FlowSeen;
const S = 1_000;
const revision = revisionOf(exampleText());
const model = gatewayModel(revision, 'edge1');
const pathOf = (node: string) => revision.numbers.paths[`inspect@red:${node}`] ?? expect.fail(node);
const [fw1, fw2] = [pathOf('fw1'), pathOf('fw2')];
const chain = revision.numbers.chains['inspect@red'] ?? expect.fail('no chain');
const CAPACITY = 129;

let object: BpfObject;
let slots: FlowSlots;
let table: FlowTable;
let log: FlowLog;
let lines: Record<string, unknown>[];
let fileTakes = true;
let lost = 0;
let models: ChainModels;
const base = process.hrtime.bigint() + 7_200_000_000_000n; // so that flows are old also on a machine that has just started
let nowMs = 1_000_000;
const nowNs = () => base + BigInt(nowMs) * 1_000_000n;
const map = (name: string) => object.map(name);
const maps = () => ({ flows: map('flows'), embryos: map('embryos'), counters: map('flow_counters') });

beforeAll(() => {
  slots = new FlowSlots(CAPACITY);
  ({ table, object } = openFlowTable({ slots, nowMs: () => nowMs, nowNs }));
});
afterAll(() => object.close());
beforeEach(() => {
  for (const name of ['flows', 'embryos']) for (const key of [...map(name).keys()]) map(name).delete(key);
  slots.adopt([], nowMs);
  [lines, fileTakes, lost] = [[], true, 0];
  openLog(1_000);
  setUp('up');
});

function setUp(fw1State: 'up' | 'down'): void {
  models = new ChainModels(new Map());
  const numbers = revision.numbers.nodes;
  const node = (name: string) => numbers[name] ?? expect.fail(name);
  const paths = [pathRow(fw1, [node('fw1')]), pathRow(fw2, [node('fw2')])];
  const draft = models.draft([chainRow({ number: chain, paths })], (number) =>
    number === node('fw1') ? fw1State : 'up',
  );
  models.commit(draft);
}

function openLog(ratePerS: number): void {
  const file = {
    write: (line: string) => {
      if (fileTakes) lines.push(JSON.parse(line) as Record<string, unknown>);
      return fileTakes;
    },
    get lost() {
      return lost;
    },
  };
  const snat = new SnatTable({ bindings: map('snat_bindings'), inners: map('snat_inners') });
  log = new FlowLog(
    {
      ...{ gateway: 'edge1', file, ratePerS, nowNs },
      sources: () => ({ maps: maps(), table, slots, model, snat }),
      chainOf: (number) => models.all().get(number),
      clock: { monoMs: () => nowMs, nowMs: () => nowMs },
    },
    CAPACITY,
  );
}

let sport = 1;
function begin({ decision, ...example }: ExampleFlow & { decision?: Partial<FlowDecision> } = {}) {
  const question = flowQuestion({ sport: ++sport, syn: false, ...example });
  const made = {
    ...{ action: 'steer' as const, rule: 1, chain, path: fw1, pinGen: 1, recorded: true },
    ...{ initiatorIsB: question.norm === 1, by: 'controller' as const, why: '' },
    ...decision,
  };
  expect(table.install(question, made, 1)).toBe(true);
  const { key } = question;
  const slot = table.read(key)?.flow.slot ?? 0;
  const count = (seen: number) => {
    const packets = BigUint64Array.of(5n, 4n);
    const bytes = BigUint64Array.of(500n, 4_000n);
    const row = abi.flowCounters.encode({
      packets,
      bytes,
      lastNs: nowNs(),
      seen,
      resetMs: new Uint32Array(2),
      nextSeq: new Uint32Array(2),
    });
    map('flow_counters').update(new Uint8Array(Uint32Array.of(slot).buffer), row);
  };
  count(SEEN.SEEN_REPLY);
  return { key, slot, sport, count };
}

/** As the datapath decides a flow of which it has seen nothing but the opening. */
function opening(decision: { path: number; action: number }): void {
  const { key } = flowQuestion({ sport: ++sport });
  const word = packFlowWord({ ...decision, initiatorIsB: false, flags: 0, chainGen: 1, fpGen: 0 });
  const none = { gen: 0, dmac: new Uint8Array(6), smac: new Uint8Array(6), hop: 0 };
  const record = abi.flow.encode({
    ...{ word, createdNs: nowNs(), rule: 1, slot: 0, rulesGen: 1, entropy: 50_000, pinGen: 0, altScope: 0 },
    ...{ chain: decision.path === 0 ? 0 : chain, fwdPort: 1 },
    out: [
      { ...none, ifindex: 0, mtu: 0 },
      { ...none, ifindex: 3, mtu: 60 },
    ],
  });
  map('embryos').update(encodeFlowKey(key), record);
}

async function sweep(afterMs = 2 * S): Promise<Record<string, unknown>[]> {
  nowMs += afterMs;
  const before = lines.length;
  const ignored = () => {};
  await sweepFlows(
    {
      ...{ maps: maps(), table, slots, nowNs, watch: log },
      ...{ chains: () => models.all(), monoMs: () => nowMs },
      ...{ onRefresh: ignored, onUnrecorded: ignored, onEnded: ignored },
    },
    new AbortController().signal,
  );
  log.swept();
  return lines.slice(before);
}

describe('the flow log', () => {
  it('has one start and one end of a flow, with who, which way, how much and why', async () => {
    const began = nowMs;
    const flow = begin();
    const start = {
      ...{ event: 'start', gateway: 'edge1', vrf: 'red', protocol: 'tcp' },
      ...{ source: '10.1.0.10', sourcePort: flow.sport, destination: '203.0.113.9', destinationPort: 80 },
      ...{ verdict: 'steer', rule: 'web', chain: 'inspect', path: fw1, nodes: ['fw1'], port: 'inside' },
      ...{ snat: '', decidedBy: 'controller', began: new Date(began).toISOString() },
    };
    expect(await sweep()).toEqual([{ ...start, at: new Date(nowMs).toISOString() }]);
    expect(await sweep()).toEqual([]);
    flow.count(SEEN.SEEN_REPLY | BOTH_FIN);
    const lastPacket = nowMs;
    expect(await sweep()).toEqual([]); // its last packets may still come
    const end = {
      ...{ ...start, event: 'end', endReason: 'fin' },
      ...{ packetsForward: 5, packetsReverse: 4, bytesForward: 500, bytesReverse: 4_000 },
      ...{ lastPacket: new Date(lastPacket).toISOString(), durationMs: lastPacket - began },
    };
    expect(await sweep(30 * S)).toEqual([{ ...end, at: new Date(nowMs).toISOString() }]);
    expect(log.lines).toEqual({ start: 1, change: 0, end: 1 });
  });

  it('a flow that another one in its slot follows has lines of its own', async () => {
    const first = begin();
    await sweep();
    first.count(SEEN.SEEN_RST);
    expect((await sweep(11 * S)).map(({ event }) => event)).toEqual(['end']);
    const second = begin();
    expect(second.slot).toBe(first.slot);
    expect(await sweep()).toMatchObject([{ event: 'start', sourcePort: second.sport }]);
  });

  it.each([
    ['rst', { seen: SEEN.SEEN_RST | SEEN.SEEN_REPLY, idleMs: 10 * S }],
    ['fin', { seen: BOTH_FIN | SEEN.SEEN_REPLY, idleMs: 30 * S }],
    ['idle', { seen: SEEN.SEEN_REPLY, idleMs: 3_600 * S }],
    ['unanswered', { seen: SEEN.SEEN_SYN, idleMs: 30 * S, syn: true }],
    ['path_down', { seen: SEEN.SEEN_REPLY, idleMs: 3_600 * S, down: true }],
    ['fin', { seen: BOTH_FIN | SEEN.SEEN_REPLY, idleMs: 30 * S, down: true }],
  ])('says that a flow ended by %s', async (endReason, { seen, idleMs, ...how }) => {
    const flow = begin({ syn: 'syn' in how });
    flow.count(seen);
    await sweep();
    if ('down' in how) setUp('down');
    expect(await sweep(idleMs)).toMatchObject([{ event: 'end', endReason, sourcePort: flow.sport }]);
  });

  it.each([
    ['evicted', SEEN.SEEN_SYN],
    ['fin', BOTH_FIN],
    ['rst', SEEN.SEEN_RST],
  ])('says so of a flow whose record the datapath removed: %s', async (endReason, seen) => {
    const flow = begin({ syn: true });
    await sweep();
    flow.count(seen);
    map('embryos').delete(encodeFlowKey(flow.key));
    expect(await sweep()).toMatchObject([
      ...[
        { event: 'end', endReason, sourcePort: flow.sport, path: fw1, nodes: ['fw1'], bytesReverse: 4_000 },
      ],
    ]);
    expect(await sweep()).toEqual([]);
  });

  it.each([
    ['rule', { action: 'drop', chain: 0, path: 0 }],
    ['unresolved', { action: 'unresolved-drop', chain: 0, path: 0 }],
    ['fp_drop', { programmed: 'drop' }],
    ['node_down', { path: 0 }],
  ] as const)('says why packets are dropped: %s', async (dropReason, decision) => {
    begin({ decision });
    expect(await sweep()).toMatchObject([{ event: 'start', verdict: 'drop', dropReason }]);
  });

  it('says that a flow goes another way, and by which it went', async () => {
    const flow = begin();
    await sweep();
    const record = table.read(flow.key)?.flow ?? expect.fail('no record');
    const word = (record.word & ~BigInt(abi.FlowWord.WORD_PATH_MASK)) | BigInt(fw2);
    map('flows').update(encodeFlowKey(flow.key), abi.flow.encode({ ...record, word }));
    expect(await sweep()).toMatchObject([
      { event: 'change', path: fw2, nodes: ['fw2'], fromPath: fw1, fromNodes: ['fw1'] },
    ]);
    expect(await sweep()).toEqual([]);
  });

  it('an opening that nothing followed has one line, when its record times out', async () => {
    opening({ path: fw1, action: abi.FlowAction.FLOW_STEER });
    expect(await sweep()).toEqual([]);
    expect(await sweep(30 * S)).toMatchObject([
      { event: 'end', endReason: 'unanswered', verdict: 'steer', packetsForward: 3, bytesForward: 180 },
    ]);
    opening({ path: 0, action: abi.FlowAction.FLOW_DROP });
    expect(await sweep(11 * S)).toMatchObject([
      { event: 'end', endReason: 'idle', verdict: 'drop', dropReason: 'rule', packetsForward: 3 },
    ]);
  });

  it('writes no second start of flows that a predecessor has left, and their ends', async () => {
    const flow = begin();
    nowMs += S;
    openLog(1_000);
    expect(await sweep()).toEqual([]);
    flow.count(SEEN.SEEN_RST);
    expect(await sweep(10 * S)).toMatchObject([{ event: 'end', endReason: 'rst' }]);
  });

  it('leaves out what is beyond its rate, openings first, and says how many', async () => {
    openLog(1); // ten lines at once: five openings, then starts while a quarter is left
    const flows = [begin(), begin(), begin(), begin()];
    for (let i = 0; i < 20; i++) opening({ path: fw1, action: abi.FlowAction.FLOW_STEER });
    for (const flow of flows) flow.count(SEEN.SEEN_RST | SEEN.SEEN_REPLY);
    const written = await sweep(30 * S);
    const of = (what: (line: Record<string, unknown>) => boolean) => written.filter(what).length;
    expect(of(({ event }) => event === 'start')).toBe(4);
    expect(of(({ endReason }) => endReason === 'rst')).toBe(4);
    const openings = of(({ endReason }) => endReason === 'unanswered');
    expect(openings).toBeLessThanOrEqual(5);
    const at = new Date(nowMs).toISOString();
    const none = { start: 0, change: 0, end: 0, unseen: 0, unwritten: 0 };
    const leftOut = { ...none, opening: 20 - openings };
    expect(written.at(-1)).toEqual({ event: 'left-out', at, gateway: 'edge1', ...leftOut });
    expect(log.leftOut).toEqual(leftOut);
    expect(await sweep()).toEqual([]);
  });

  it('counts what the file does not take, and says so once it does', async () => {
    fileTakes = false;
    begin();
    expect(await sweep()).toEqual([]);
    [fileTakes, lost] = [true, 2];
    expect(await sweep()).toMatchObject([{ event: 'left-out', unwritten: 3 }]);
    expect(log.lines.start).toBe(0);
  });

  it('counts flows that began and were gone between two sweeps', async () => {
    const flow = begin();
    map('flows').delete(encodeFlowKey(flow.key));
    expect(await sweep()).toMatchObject([{ event: 'left-out', unseen: 1 }]);
  });
});
