// SPDX-License-Identifier: Apache-2.0
// Rows of a datapath of another ABI in real maps of the kernel: what is carried over, and what must not be.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type BpfObject, mapArray, mapLayout, openObject, perCpuValues } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { makeOtherAbi } from '@detour/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { encodeFlowKey } from './flow-table.js';
import { packFlowWord } from './flow-word.js';
import { MovedCounters, moveTotals } from './moved-counters.js';
import { MovedRows, readControl, readLent, seedChains } from './moved-rows.js';
import type { Predecessor } from './predecessor.js';
import { flowQuestion } from './testdata.js';

const DATAPATH = fileURLToPath(new URL('../../../datapath/', import.meta.url));
/** The kernel pushes half-open flows out long before their map is full. */
const SIZES = { flows: 2_048, embryos: 4_096, flow_counters: 6_145, snat_bindings: 64, snat_inners: 64 };

let directory: string;
/** The layouts of the other ABI. */
let other: typeof abi;
let old: BpfObject;
let now: BpfObject;
let from: Pick<Predecessor, 'map' | 'layout'>;
const to = (name: string) => now.map(name);

beforeAll(async () => {
  execFileSync('flock', [`${DATAPATH}Makefile`, 'make', '-s', '-C', DATAPATH]);
  directory = mkdtempSync(join(tmpdir(), 'detour-abi-'));
  const made = makeOtherAbi(directory);
  other = (await import(pathToFileURL(made.module).href)) as typeof abi;
  old = openObject(made.object, { maxEntries: SIZES });
  now = openObject(`${DATAPATH}build/edge.bpf.o`, { maxEntries: SIZES });
  const layout = (name: string) => mapLayout(old.map(name)) ?? expect.fail(`${name} has no BTF`);
  from = { map: (name) => old.map(name), layout };
}, 120_000);
afterAll(() => {
  old.close();
  now.close();
  rmSync(directory, { recursive: true });
});
beforeEach(() => {
  for (const object of [old, now])
    for (const name of ['flows', 'embryos'])
      for (const key of [...object.map(name).keys()]) object.map(name).delete(key);
});

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const key = (sport: number) => encodeFlowKey(flowQuestion({ sport }).key);

/** A record as the old ABI has it, with a way out cached. */
function flow(change: Partial<abi.Flow> & { action?: number } = {}): abi.Flow {
  const { action = abi.FlowAction.FLOW_STEER, ...fields } = change;
  const word = { path: 77, initiatorIsB: true, action, flags: 0, chainGen: 41, fpGen: 3 };
  const out = { gen: 1, ifindex: 5, dmac: new Uint8Array(6), smac: new Uint8Array(6), mtu: 1_500, hop: 0 };
  return {
    ...{ word: packFlowWord(word), createdNs: 123_456_789n, rule: 9, slot: 12, rulesGen: 7, chain: 4 },
    ...{ fwdPort: 2, entropy: 50_000, pinGen: 6, altScope: 0, out: [out, out] },
    ...fields,
  };
}
const put = (name: 'flows' | 'embryos', sport: number, record: abi.Flow) =>
  old.map(name).update(key(sport), other.flow.encode(record));
const held = (name: 'flows' | 'embryos', sport: number): abi.Flow | null => {
  const value = now.map(name).lookup(key(sport));
  return value === undefined ? null : abi.flow.decode(value);
};
const moving = (capacity = SIZES.flow_counters) =>
  new MovedRows({ from: from as Predecessor, to, capacity, pending: abi.FlowAction.FLOW_PENDING });

describe('MovedRows', () => {
  it('carries every record over as it was, though it is laid out otherwise, but no cached way out', async () => {
    expect(abi.flow.size).not.toBe(other.flow.size);
    for (let i = 0; i < 1_000; i++)
      put(i % 4 === 0 ? 'embryos' : 'flows', 2_000 + i, flow({ slot: 1 + i, rule: i }));
    const rows = moving();
    expect(await rows.copy('all')).toEqual({ moved: 1_000, left: 0 });
    expect(rows.slots.size).toBe(1_000);
    for (const i of [0, 1, 999]) {
      const expected = flow({ slot: 1 + i, rule: i });
      const ways = expected.out.map((way) => ({ ...way, gen: 0 }));
      expect(held(i % 4 === 0 ? 'embryos' : 'flows', 2_000 + i)).toEqual({ ...expected, out: ways });
    }
  });

  it('leaves flows that nobody has decided, and says how many have counter rows that are none here', async () => {
    put('embryos', 1, flow({ action: abi.FlowAction.FLOW_PENDING, slot: 3 }));
    put('flows', 2, flow({ slot: 100 }));
    put('flows', 3, flow({ slot: 99 }));
    expect(await moving(100).copy('all')).toEqual({ moved: 1, left: 1 });
    expect([held('embryos', 1), held('flows', 2), held('flows', 3)?.slot]).toEqual([null, null, 99]);
  });

  it('takes the later word of a record, and at the end only what is missing', async () => {
    put('embryos', 1, flow({ slot: 5 }));
    const rows = moving();
    await rows.copy('all');
    old.map('embryos').delete(key(1));
    put('flows', 1, flow({ slot: 5, rule: 10 }));
    await rows.copy('all');
    expect([held('embryos', 1), held('flows', 1)?.rule]).toEqual([null, 10]);
    now.map('flows').update(key(1), abi.flow.encode(flow({ slot: 5, rule: 11 })));
    put('flows', 2, flow({ slot: 6 }));
    await rows.copy('missing');
    expect([held('flows', 1)?.rule, held('flows', 2)?.slot]).toEqual([11, 6]);
  });
});

describe('what goes on', () => {
  it('generations: of the rules, of chains and their slots, from the bank that was live', () => {
    const control = mapArray(old.map('control'));
    const words = new Uint32Array(
      control.bytes.buffer,
      control.bytes.byteOffset,
      control.bytes.byteLength >> 2,
    );
    words[other.control.offsets.bank >> 2] = 1;
    words[other.control.offsets.rulesGen >> 2] = 17;
    control.close();
    expect(readControl(from as Predecessor)).toEqual({ bank: 1, rulesGen: 17 });
    const chain = {
      gen: 41,
      onFailure: 1,
      onNodeDown: 0,
      onRuleChange: 0,
      affinity: 0,
      valid: 1,
      decides: 1,
    };
    const row = { ...chain, nslots: 3, backup: 0, mss: 0 };
    old.map('chains').update(u32(other.DetourLimit.DT_MAX_CHAINS + 5), other.chain.encode(row));
    seedChains(from as Predecessor, to, 1);
    const seeded = now.map('chains').lookup(u32(5)) ?? expect.fail('chain 5 is not there');
    expect(abi.chain.decode(seeded)).toEqual(row);
  });

  it('counter rows that the program had in advance, and has not taken', () => {
    const lent = mapArray(old.map('free_slots'));
    const { given, taken, slot } = other.freeSlots.offsets;
    const counts = new BigUint64Array(lent.bytes.buffer, lent.bytes.byteOffset, slot >> 3);
    const rows = new Uint32Array(
      lent.bytes.buffer,
      lent.bytes.byteOffset + slot,
      other.DetourLimit.DT_FREE_SLOTS,
    );
    counts[given >> 3] = 65_538n; // once round
    counts[taken >> 3] = 65_535n;
    for (const [at, value] of [
      [65_535, 30],
      [0, 31],
      [1, 32],
    ] as const)
      rows[at] = value;
    lent.close();
    expect(readLent(from as Predecessor)).toEqual([30, 31, 32]);
  });

  it('what each flow has counted, exactly: what the old program adds after the copy is added to what the new one has', () => {
    const rows = mapArray(old.map('flow_counters'));
    const mine = mapArray(now.map('flow_counters'));
    const write = (packets: bigint, lastNs: bigint, seen: number) =>
      rows.element(8).set(
        other.flowCounters.encode({
          ...{
            packets: BigUint64Array.of(packets, 2n),
            bytes: BigUint64Array.of(100n * packets, 5n),
            lastNs,
            resetMs: new Uint32Array(2),
            nextSeq: new Uint32Array(2),
            seen,
          },
        }),
      );
    const read = () => abi.flowCounters.decode(mine.element(8));
    write(10n, 1_000n, abi.FlowSeen.SEEN_REPLY);
    using counters = new MovedCounters(from as Predecessor, now.map('flow_counters'));
    counters.copy([8]);
    expect(read()).toMatchObject({
      packets: BigUint64Array.of(10n, 2n),
      lastNs: 1_000n,
      seen: abi.FlowSeen.SEEN_REPLY,
    });
    write(13n, 2_000n, abi.FlowSeen.SEEN_REPLY | abi.FlowSeen.SEEN_FIN_FWD);
    new BigUint64Array(mine.bytes.buffer, mine.element(8).byteOffset, 1)[0] = 20n; // the new one has counted ten more
    counters.addRest([8]);
    expect(read()).toMatchObject({
      lastNs: 2_000n,
      seen: abi.FlowSeen.SEEN_REPLY | abi.FlowSeen.SEEN_FIN_FWD,
    });
    expect(read().packets[0]).toBe(23n);
    expect(read().bytes[0]).toBe(1_300n);
    rows.close();
    mine.close();
  });

  it('totals of every CPU', async () => {
    const stored = new Uint8Array(old.map('drops').storedSize);
    for (const [cpu, value] of perCpuValues(old.map('drops'), stored).entries()) value[0] = cpu + 1;
    old.map('drops').update(u32(7), stored);
    await moveTotals(from as Predecessor, to);
    expect(now.map('drops').lookup(u32(7))).toEqual(stored);
  });
});
