// SPDX-License-Identifier: Apache-2.0
// The rows in front of the flow table: they decide nothing. A row that is stale, torn or another flow's is not followed.
import { type MappedArray, mapArray } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, PATH, PORT } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow, readFlow } from './flow-records.js';
import { CLIENT, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { publishAll, putPath } from './world.js';

const rig = openRig({ sizes: { flow_front: 2 } }); // one place: any two flows share it
const rows: MappedArray = mapArray(rig.map('flow_front'));
const { FLOW_ALLOW, FLOW_DROP } = abi.FlowAction;
const WORD_BYTES = 8;
const WORDS = 7; // key to check

beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  for (const slot of [1, 2, 3]) rig.put('flow_counters', slot, new Uint8Array(abi.flowCounters.size));
  for (const row of [0, 1]) rows.element(row).fill(0);
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => {
  rows.close();
  rig[Symbol.dispose]();
});

const packet = (srcPort: number, flags = 16): Uint8Array =>
  clientFrame({ transport: { kind: 'tcp', srcPort, dstPort: 443, flags } });
const end = (frame: Uint8Array): string => sendOne(rig, 'inside', frame).end;
const filled = (): number => [0, 1].filter((row) => rows.element(row).some((byte) => byte !== 0)).length;
const counted = (slot: number): bigint | undefined => {
  const held = rig.map('flow_counters').lookup(u32(slot));
  return held && abi.flowCounters.decode(held).packets[0];
};
/** Without the word that says that records have changed. */
const unnoticed = (key: Uint8Array): boolean => rig.map('flows').delete(key);

describe('a row', () => {
  it('is left by the first packet, and read by the next ones until records are said to have changed', () => {
    const key = putFlow(rig);
    expect([filled(), end(packet(40_000)), filled()]).toEqual([0, 'forwarded', 1]);
    unnoticed(key);
    expect(end(packet(40_000))).toBe('forwarded');
    expect(counted(1)).toBe(2n);
    rig.control({
      flowsGen: abi.control.decode(rig.map('control').lookup(u32(0)) ?? new Uint8Array()).flowsGen + 1,
    });
    expect(end(packet(40_000))).toBe('punted');
  });

  it.each(['routeGen', 'rulesGen', 'flowsGen'] as const)('is stale when %s has moved', (name) => {
    const key = putFlow(rig, { action: FLOW_ALLOW });
    end(packet(40_000));
    end(packet(40_000));
    unnoticed(key);
    expect(end(packet(40_000))).toBe('forwarded');
    const held = abi.control.decode(rig.map('control').lookup(u32(0)) ?? new Uint8Array());
    rig.control({ [name]: held[name] + 1 });
    expect(end(packet(40_000))).toBe('punted');
  });

  it('takes part in no decision while its path is down: the record is moved, and both follow', () => {
    const key = putFlow(rig);
    end(packet(40_000));
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1], state: abi.PathState.PATH_DOWN });
    expect(end(packet(40_000))).toBe('forwarded');
    expect(Number(readFlow(rig, key).word) & 0xffff).toBe(PATH.two);
    putPath(rig, 0, PATH.one, { chain: CHAIN.two, nodes: [1] });
    unnoticed(key);
    const returned = buildPacket({
      src: CLIENT.ip4,
      dst: SERVER.ip4,
      transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 },
    });
    const from = (node: 1 | 2): string =>
      sendOne(
        rig,
        'underlay',
        fromRemote(
          NODES[node],
          buildEthernet(
            { dst: NODES[node].innerSrc, src: NODES[node].innerDst, etherType: 0x0800 },
            returned,
          ),
        ),
      ).end;
    expect(from(1)).toBe('DROP_STRICT_RETURN');
  });

  it('goes with a connection that had ended, when its ports are used again', () => {
    putFlow(rig);
    for (const flags of [16, 20]) expect(end(packet(40_000, flags))).toBe('forwarded'); // the second resets it
    expect(filled()).toBe(1);
    expect(end(packet(40_000, 2))).toBe('punted');
    expect(end(packet(40_000))).toBe('punted'); // its pending record, not the row
  });

  it('is not another port group: what enters elsewhere is decided on its own', () => {
    putFlow(rig, { fwdPort: PORT.outside });
    end(packet(40_000));
    end(packet(40_000));
    expect(rig.events().length).toBe(2);
  });

  it('is not kept for embryos, which may be pushed out', () => {
    putFlow(rig, { map: 'embryos' });
    end(packet(40_000));
    expect(filled()).toBe(0);
  });

  it('makes room for another flow now and then', () => {
    const ports = [40_001, 40_002, 40_003];
    for (const [i, sport] of ports.entries()) putFlow(rig, { sport, slot: i + 1 });
    for (const sport of ports) end(packet(sport));
    const first = rows.element(0).slice();
    for (let left = 400; left > 0 && Buffer.compare(rows.element(0), first) === 0; left--)
      for (const sport of ports) expect(end(packet(sport))).toBe('forwarded');
    expect(Buffer.compare(rows.element(0), first)).not.toBe(0);
  });
});

describe('a row that was half written', () => {
  it('is not followed, whichever words of it are those of another flow', () => {
    const a = putFlow(rig, { sport: 40_001, slot: 1, action: FLOW_DROP });
    const b = putFlow(rig, { sport: 40_002, slot: 2, action: FLOW_ALLOW });
    for (let i = 0; i < 2; i++) for (const sport of [40_001, 40_002]) end(packet(sport));
    const whole = [0, 1].map((row) => rows.element(row).slice());
    for (const key of [a, b]) unnoticed(key);
    expect([end(packet(40_001)), end(packet(40_002))]).toEqual(['DROP_RULE', 'forwarded']);
    const followed: string[] = [];
    for (let mix = 1; mix < 2 ** WORDS - 1; mix++) {
      for (let word = 0; word < WORDS; word++) {
        const at = word * WORD_BYTES;
        for (const row of [0, 1]) {
          const source = whole[row ^ ((mix >> word) & 1)];
          if (source) rows.element(row).set(source.subarray(at, at + WORD_BYTES), at);
        }
      }
      if (isWhole(rows.element(0), whole) || isWhole(rows.element(1), whole)) continue;
      for (const sport of [40_001, 40_002]) {
        for (const name of ['embryos', 'sources'])
          for (const key of [...rig.map(name).keys()]) rig.map(name).delete(key);
        const fate = end(packet(sport));
        if (fate !== 'punted')
          followed.push(`words ${mix.toString(2)} of the other flow, port ${sport}: ${fate}`);
      }
    }
    expect(followed).toEqual([]);
  });
});

/** The mixture differs from both rows: flows may have words in common. */
function isWhole(row: Uint8Array, whole: readonly Uint8Array[]): boolean {
  return whole.some(
    (one) => Buffer.compare(row.subarray(0, WORDS * WORD_BYTES), one.subarray(0, WORDS * WORD_BYTES)) === 0,
  );
}
