// SPDX-License-Identifier: Apache-2.0
// The sweep over real maps of the kernel; the program is not attached, records and counters are written as it would.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BpfMap, type BpfObject, openObject, updateBatch } from '@detour/bpf';
import { abi } from '@detour/contracts';
import type { FlowKey } from '@detour/core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ChainModels } from './chain-models.js';
import type { FlowDecision } from './decision.js';
import { BOTH_FIN } from './flow-head.js';
import { FlowSlots } from './flow-slots.js';
import { encodeFlowKey, FlowTable } from './flow-table.js';
import { type PinUse, type SweepResult, sweepFlows } from './sweeper.js';
import { chainRow, type ExampleFlow, flowQuestion, pathRow } from './testdata.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));
const SIZES = { flows: 2048, embryos: 1024, flow_counters: 3073 };
const SEEN = abi.FlowSeen;

let object: BpfObject;
let slots: FlowSlots;
let table: FlowTable;
let nowMs = 0;
/** Free slots each time that the datapath was told to read records again. */
let changes: number[] = [];
/** Two hours on, so that flows are old also on a machine that has just started. */
const nowNs = () => process.hrtime.bigint() + 7_200_000_000_000n;
const models = new ChainModels(new Map());

beforeAll(() => {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  object = openObject(`${DATAPATH}build/edge.bpf.o`, { maxEntries: SIZES });
  models.commit(models.draft([chainRow({ paths: [pathRow(1, [1, 3]), pathRow(2, [2])] })], () => 'up'));
});
afterAll(() => object.close());
beforeEach(() => {
  for (const name of ['flows', 'embryos']) for (const key of [...map(name).keys()]) map(name).delete(key);
  nowMs = 1_000_000;
  changes = [];
  slots = new FlowSlots(SIZES.flow_counters);
  table = new FlowTable({
    maps: maps(),
    slots,
    nowMs: () => nowMs,
    nowNs,
    rulesGen: () => 1,
    chainGen: () => 1,
    onReplaced: () => changes.push(slots.available),
    isInside: () => true,
  });
});

const map = (name: string): BpfMap => object.map(name);
const maps = () => ({ flows: map('flows'), embryos: map('embryos'), counters: map('flow_counters') });

let sport = 1;

const whole: FlowDecision = {
  action: 'steer',
  rule: 1,
  chain: 1,
  path: 1,
  initiatorIsB: false,
  pinGen: 1,
  recorded: true,
  by: 'controller',
  why: '',
};

interface Flow extends ExampleFlow {
  readonly decision?: Partial<FlowDecision>;
  /** Milliseconds since its last packet; none counted yet, if absent. */
  readonly idleMs?: number;
  readonly seen?: number;
}

/** A flow in the tables; `syn: true` and anything but TCP begins as an embryo. */
function flow({ decision, idleMs, seen = 0, ...example }: Flow) {
  const question = flowQuestion({ sport: sport++, syn: false, ...example });
  const made = { ...whole, initiatorIsB: question.norm === 1, ...decision };
  expect(table.install(question, made, 1)).toBe(true);
  const slot = table.read(question.key)?.flow.slot ?? 0;
  if (idleMs !== undefined) {
    const lastNs = nowNs() - BigInt(idleMs) * 1_000_000n;
    const counters = {
      packets: new BigUint64Array(2),
      bytes: new BigUint64Array(2),
      lastNs,
      seen,
      resetMs: new Uint32Array(2),
      nextSeq: new Uint32Array(2),
    };
    map('flow_counters').update(
      new Uint8Array(Uint32Array.of(slot).buffer),
      abi.flowCounters.encode(counters),
    );
  }
  return { key: question.key, slot, isThere: () => table.read(question.key) !== null };
}

async function sweep(): Promise<
  SweepResult & { refreshed: PinUse[]; recorded: PinUse[]; unpinned: FlowKey[] }
> {
  const refreshed: PinUse[] = [];
  const recorded: PinUse[] = [];
  const unpinned: FlowKey[] = [];
  const result = await sweepFlows(
    {
      maps: maps(),
      table,
      slots,
      chains: () => models.all(),
      monoMs: () => nowMs,
      nowNs,
      onRefresh: (pins) => refreshed.push(...pins),
      onUnrecorded: (pins) => recorded.push(...pins),
      onEnded: (keys) => unpinned.push(...keys),
    },
    new AbortController().signal,
  );
  return { ...result, refreshed, recorded, unpinned };
}

const S = 1_000;
const UDP = { proto: 17 } as const;

describe('sweepFlows', () => {
  it.each([
    ["an established TCP flow has its chain's time", {}, 3_600 * S],
    ['UDP has its own', UDP, 120 * S],
    ['other protocols too', { proto: 47 }, 60 * S],
    ['a half-open connection ends soon', { syn: true }, 30 * S],
    ['one that both sides closed', { seen: SEEN.SEEN_FIN_FWD | SEEN.SEEN_FIN_REV }, 30 * S],
    [
      'one that the client closed has all its time: the answer may be long',
      { seen: SEEN.SEEN_FIN_FWD },
      3_600 * S,
    ],
    ['one that the server closed too', { seen: SEEN.SEEN_FIN_REV }, 3_600 * S],
    ['one that the client reset', { seen: SEEN.SEEN_RST_FWD | SEEN.SEEN_REPLY }, 10 * S],
    ['one that the server reset', { seen: SEEN.SEEN_RST_REV | SEEN.SEEN_REPLY }, 10 * S],
    ['without a chain', { decision: { action: 'allow', chain: 0, path: 0 } as const }, 120 * S],
    ['of a chain that is gone', { decision: { chain: 40 } }, 120 * S],
    [
      'a dropped one is soon looked up again',
      { decision: { action: 'drop', chain: 0, path: 0 } as const },
      10 * S,
    ],
  ])('%s', async (_what, example, limitMs) => {
    const young = flow({ ...example, idleMs: limitMs - 2_000 });
    const old = flow({ ...example, idleMs: limitMs + 10 });
    const { ended } = await sweep();
    expect([young.isThere(), old.isThere(), ended]).toEqual([true, false, 1]);
    expect(slots.available).toBe(SIZES.flow_counters - 2); // one is in use
  });

  it('counts what is there, by kind and by node', async () => {
    for (let i = 0; i < 300; i++) flow({ idleMs: 0, decision: { path: 1 } });
    for (let i = 0; i < 20; i++) flow({ ...UDP, idleMs: 0, decision: { path: 2 } });
    flow({ idleMs: 0, decision: { action: 'allow', chain: 0, path: 0 } });
    const result = await sweep();
    expect(result).toMatchObject({ flows: 301, embryos: 20, pinned: 320, unrecorded: 0, ended: 0 });
    expect(result.byNode).toEqual(
      new Map([
        [1, 300],
        [3, 300],
        [2, 20],
      ]),
    );
  });

  it('a flow without any counted packet is as old as its record', async () => {
    const fresh = flow({ syn: true });
    await sweep();
    expect(fresh.isThere()).toBe(true);
  });

  it('refreshes a pin once a minute, and only while packets come', async () => {
    const used = flow({ idleMs: 1_000 });
    const silent = flow({ idleMs: 61 * S });
    expect((await sweep()).refreshed).toEqual([]);
    nowMs += 59 * S;
    expect((await sweep()).refreshed).toEqual([]);
    nowMs += 1 * S;
    const { refreshed } = await sweep();
    expect(refreshed.map((pin) => [pin.slot, pin.ttlS])).toEqual([[used.slot, 3_600]]);
    expect(silent.isThere()).toBe(true);
  });

  it('refreshes a pin that could not be refreshed by the next sweep, and all of them when it is told so', async () => {
    const [one, other] = [flow({ idleMs: 1_000 }), flow({ idleMs: 61 * S })];
    slots.refreshAgain(one.slot);
    expect((await sweep()).refreshed.map(({ slot }) => slot)).toEqual([one.slot]);
    slots.refreshAllAgain();
    expect((await sweep()).refreshed.map(({ slot }) => slot).sort()).toEqual([one.slot, other.slot].sort());
  });

  it('keeps the pin of a flow that a node has said something of, with what it said, and counts it at no node', async () => {
    const one = flow({ idleMs: 0, decision: { recorded: false, path: 2, programmed: 'drop' } });
    flow({ idleMs: 0, decision: { recorded: false, action: 'drop', chain: 0, path: 0 } });
    const { recorded, byNode, byPath } = await sweep();
    expect(recorded).toMatchObject([{ slot: one.slot, record: { path: 2, chain: 1, programmed: 'drop' } }]);
    expect([...byNode, ...byPath]).toEqual([]);
  });

  it('hands over every pin that is not recorded, each time, with the generation as last known', async () => {
    const one = flow({ idleMs: 0, decision: { recorded: false, pinGen: 0, path: 2 } });
    flow({ idleMs: 0, decision: { recorded: false, path: 0 } }); // no path: nothing to record
    flow({ idleMs: 0, decision: { recorded: false, action: 'allow', chain: 0 } });
    for (let round = 0; round < 2; round++) {
      const { recorded, unrecorded } = await sweep();
      expect(unrecorded).toBe(1);
      expect(recorded).toMatchObject([{ slot: one.slot, record: { gen: 1, path: 2, chain: 1 } }]);
      expect(recorded[0]?.key).toEqual(one.key);
    }
  });

  it('a record that is promoted during the sweep keeps its slot', async () => {
    const idle = flow({ syn: true, idleMs: 40 * S });
    const key = encodeFlowKey(idle.key);
    const record = map('embryos').lookup(key) ?? expect.fail();
    const swept = sweep();
    map('embryos').delete(key); // its reply came: the datapath moves it after the sweep has looked at it
    map('flows').update(key, record);
    await swept;
    await sweep();
    const others = new Set<number>();
    while (slots.available > 0) others.add(slots.take(nowMs));
    expect(others.has(idle.slot)).toBe(false);
    expect(idle.isThere()).toBe(true);
  });

  it('says whose pins nobody needs any more: of connections that were closed or reset, and recorded', async () => {
    const closed = { seen: BOTH_FIN, idleMs: 40 * S };
    const keys = [
      flow(closed),
      flow({ seen: SEEN.SEEN_RST | SEEN.SEEN_REPLY, idleMs: 40 * S }),
      flow({ ...closed, decision: { recorded: false } }),
      flow({ ...closed, decision: { action: 'allow', chain: 0, path: 0 } }),
      flow({ seen: SEEN.SEEN_FIN_FWD, idleMs: 3_601 * S }), // its pin has expired with it
      flow({ seen: SEEN.SEEN_RST, idleMs: 0 }), // its last packets may be on their way
    ].map(({ key }) => key);
    const { ended, unpinned } = await sweep();
    expect(ended).toBe(5);
    expect(unpinned.map(({ aport, bport }) => `${aport}-${bport}`).sort()).toEqual(
      keys
        .slice(0, 2)
        .map(({ aport, bport }) => `${aport}-${bport}`)
        .sort(),
    );
  });

  it('has the datapath forget removed records once, before their slots are free', async () => {
    for (let i = 0; i < 3; i++) flow({ idleMs: 3_700 * S });
    const held = slots.available;
    await sweep();
    expect([changes, slots.available]).toEqual([[held], held + 3]);
    await sweep();
    expect(changes).toEqual([held]);
  });

  it('a replaced decision is read again by the datapath', () => {
    const established = flow({});
    const embryonic = flow({ syn: true });
    for (const one of [established, embryonic])
      expect(table.replace(one.key, { ...whole, path: 2 })).toBe(true);
    expect(changes).toHaveLength(1);
  });

  it('frees the slot of a record that the kernel pushed out', async () => {
    const before = slots.available;
    const gone = flow({ syn: true, idleMs: 0 });
    map('embryos').delete(encodeFlowKey(gone.key));
    nowMs += 1;
    await sweep();
    expect(slots.available).toBe(before);
  });

  it('pending marks end after two seconds and hold no slot', async () => {
    const pending = (createdNs: bigint, port: number) => {
      const way = { gen: 0, ifindex: 0, dmac: new Uint8Array(6), smac: new Uint8Array(6), mtu: 0, hop: 0 };
      const record: abi.Flow = {
        word: BigInt(abi.FlowAction.FLOW_PENDING) << BigInt(abi.FlowWord.WORD_ACTION_SHIFT),
        createdNs,
        slot: 7, // while pending: packets held so far
        ...{
          rule: 0,
          rulesGen: 0,
          chain: 0,
          fwdPort: 1,
          entropy: 0,
          pinGen: 0,
          altScope: 0,
          out: [way, way],
        },
      };
      map('embryos').update(encodeFlowKey(flowQuestion({ sport: port }).key), abi.flow.encode(record));
    };
    const now = nowNs();
    pending(now - 2_100_000_000n, 60_001);
    pending(now - 500_000_000n, 60_002);
    const { ended, embryos } = await sweep();
    expect([embryos, ended]).toEqual([2, 1]);
    expect(slots.available).toBe(SIZES.flow_counters - 1);
  });

  it('lets the event loop turn while it looks at many flows', async () => {
    const count = 1_500;
    const records = new Uint8Array(count * abi.flow.size);
    const keys = new Uint8Array(count * abi.flowKey.size);
    const one = flow({ idleMs: 0 });
    const sample = map('flows').lookup(encodeFlowKey(one.key)) ?? expect.fail();
    for (let i = 0; i < count; i++) {
      keys.set(encodeFlowKey(flowQuestion({ sport: i + 1, dport: 9 }).key), i * abi.flowKey.size);
      records.set(sample, i * abi.flow.size);
    }
    await updateBatch(map('flows'), keys, records);
    let turns = 0;
    const ticking = setInterval(() => {}, 1);
    let running = true;
    const tick = () => {
      turns++;
      if (running) setImmediate(tick);
    };
    setImmediate(tick);
    const { flows } = await sweep();
    running = false;
    clearInterval(ticking);
    expect(flows).toBe(count + 1);
    expect(turns).toBeGreaterThan(10);
  });
});
