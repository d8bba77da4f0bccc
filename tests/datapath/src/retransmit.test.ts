// SPDX-License-Identifier: Apache-2.0
// What TCP sends again, of the flows that are in the sample.
import { abi } from '@detour/contracts';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, PATH } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, clientFrame, ENTROPY, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
const SLOT = 9;
const [SYN, FIN, ACK, PUSH] = [2, 1, 16, 8] as const;
const IN_SAMPLE = ENTROPY & ~15;

beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  const empty = new Uint8Array(rig.map('node_counters').storedSize);
  for (const node of [1, 2, 3]) rig.map('node_counters').update(u32(node), empty);
  putFlow(rig, { sport: 5000, slot: SLOT, entropy: IN_SAMPLE });
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

function segment(seq: number, bytes: number, flags: number = ACK | PUSH, sport = 5000): Uint8Array {
  const transport = { kind: 'tcp', srcPort: sport, dstPort: 443, flags, seq: seq >>> 0 } as const;
  return clientFrame({ transport, payload: new Uint8Array(bytes) });
}
function answer(seq: number, bytes: number): Uint8Array {
  const transport = { kind: 'tcp', srcPort: 443, dstPort: 5000, flags: ACK, seq: seq >>> 0 } as const;
  return clientFrame({
    ...{ src: SERVER.ip4, dst: CLIENT.ip4, srcMac: SERVER.mac, dstMac: macOf('outside') },
    ...{ transport, payload: new Uint8Array(bytes) },
  });
}
const pass = (frame: Uint8Array, device: 'inside' | 'outside' = 'inside') =>
  expect(sendOne(rig, device, frame).end).toBe('forwarded');
/** Segments seen, and those that had been sent before, of a node. */
const counted = (node = 1) => [4, 5].map((index) => Number(rig.count('node_counters', node, index)));

describe('segments of a flow in the sample', () => {
  it('count once with new data, and as sent again with old: also a part of it', () => {
    pass(segment(1_000, 100));
    pass(segment(1_100, 100));
    pass(segment(1_200, 100));
    expect(counted()).toEqual([3, 0]);
    pass(segment(1_100, 100));
    pass(segment(1_250, 50));
    expect(counted()).toEqual([5, 2]);
    pass(segment(1_250, 100)); // reaches past what was seen
    expect(counted()).toEqual([6, 2]);
  });

  it('wrap around, and count in each direction by itself', () => {
    pass(segment(0xffff_ff80, 100));
    pass(answer(500, 10), 'outside');
    pass(segment(0xffff_ffe4, 100)); // ends at 72
    pass(segment(72, 10));
    expect(counted()).toEqual([4, 0]);
    pass(segment(0xffff_ffe4, 100));
    pass(answer(500, 10), 'outside');
    expect(counted()).toEqual([6, 2]);
  });

  it('are none that acknowledge alone, and none that keep the connection alive', () => {
    pass(segment(1_000, 100));
    pass(segment(1_100, 0, ACK));
    pass(segment(1_099, 0, ACK));
    pass(segment(1_099, 1, ACK));
    expect(counted()).toEqual([1, 0]);
  });

  it('count with SYN and FIN, which take a number each; a SYN with other numbers begins anew', () => {
    pass(segment(1_000, 0, SYN));
    pass(segment(1_000, 0, SYN));
    pass(segment(1_001, 10));
    pass(segment(1_011, 0, ACK | FIN));
    pass(segment(1_011, 0, ACK | FIN));
    expect(counted()).toEqual([5, 2]);
    pass(segment(7, 0, SYN));
    pass(segment(8, 10));
    expect(counted()).toEqual([7, 2]);
  });
});

it('flows that are not in the sample, and other protocols, cost and count nothing', () => {
  putFlow(rig, { sport: 5001, slot: SLOT + 1, entropy: IN_SAMPLE | 1 });
  putFlow(rig, { sport: 5002, slot: SLOT + 2, entropy: IN_SAMPLE, proto: 17 });
  for (let i = 0; i < 2; i++) {
    pass(segment(1_000, 100, ACK, 5001));
    pass(
      clientFrame({ transport: { kind: 'udp', srcPort: 5002, dstPort: 443 }, payload: new Uint8Array(9) }),
    );
  }
  expect(counted()).toEqual([0, 0]);
  const row = rig.map('flow_counters').lookup(u32(SLOT + 1)) ?? new Uint8Array();
  expect([...abi.flowCounters.decode(row).nextSeq]).toEqual([0, 0]);
});

it('all nodes of a path count', () => {
  putFlow(rig, { sport: 5003, slot: SLOT + 3, entropy: IN_SAMPLE, path: PATH.pair, chain: CHAIN.pair });
  pass(segment(1_000, 100, ACK, 5003));
  pass(segment(1_000, 100, ACK, 5003));
  expect([1, 2, 3].map(counted)).toEqual([
    [2, 1],
    [2, 1],
    [0, 0],
  ]);
});
