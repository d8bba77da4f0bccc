// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { NeighbourDesk, type NeighbourDeskOptions } from './neighbour-desk.js';
import type { HeldPacket } from './punt-desk.js';

const packet = (mark: number, bytes = 1): HeldPacket => ({
  frame: new Uint8Array(bytes).fill(mark),
  op: 1,
  port: 1,
  node: 0,
});

function desk(change: Partial<NeighbourDeskOptions> = {}) {
  const clock = manualClock();
  const asked: string[] = [];
  const ends: string[] = [];
  const resolved = new Set<string>();
  const marks = (packets: readonly HeldPacket[]) => packets.map((one) => one.frame[0]).join();
  const made = new NeighbourDesk({
    deadlineMs: 3_000,
    maxPacketsPerNextHop: 3,
    maxNextHops: 2,
    maxBytes: 1_000,
    monoMs: () => clock.monoMs(),
    resolve: (device, address) => asked.push(`${address} on ${device}`),
    isResolved: (device, address) => resolved.has(`${address} on ${device}`),
    putBack: (packets) => ends.push(`back ${marks(packets)}`),
    dropHeld: (packets, why) => ends.push(`${why} ${marks(packets)}`),
    ...change,
  });
  return { desk: made, clock, asked, ends, resolved };
}

describe('NeighbourDesk', () => {
  it('asks once per next hop, and puts packets back in their order when it answers', () => {
    const { desk: d, asked, ends } = desk();
    for (const mark of [1, 2, 3]) d.take('eth1', '10.0.0.2', packet(mark));
    expect(asked).toEqual(['10.0.0.2 on eth1']);
    d.settle('eth2', '10.0.0.2', true); // the same address on another device is somebody else
    expect(ends).toEqual([]);
    d.settle('eth1', '10.0.0.2', true);
    expect(ends).toEqual(['back 1,2,3']);
    d.settle('eth1', '10.0.0.2', true);
    expect(ends).toHaveLength(1);
  });

  it('puts a packet back at once whose next hop was resolved while the event was on its way', () => {
    const { desk: d, asked, ends, resolved } = desk();
    resolved.add('10.0.0.2 on eth1');
    d.take('eth1', '10.0.0.2', packet(1));
    expect(ends).toEqual(['back 1']);
    expect(asked).toEqual([]);
  });

  it('drops as arp_fail when the kernel says that nobody answers, and asks anew for the next packet', () => {
    const { desk: d, asked, ends } = desk();
    d.take('eth1', '10.0.0.2', packet(1));
    d.settle('eth1', '10.0.0.2', false);
    d.take('eth1', '10.0.0.2', packet(2));
    expect(ends).toEqual(['arp_fail 1']);
    expect(asked).toHaveLength(2);
  });

  it('drops as arp_fail after the deadline', () => {
    const { desk: d, clock, ends } = desk();
    d.take('eth1', '10.0.0.2', packet(1));
    clock.advance(2_999);
    d.take('eth1', '10.0.0.3', packet(2));
    d.tick();
    expect(ends).toEqual([]);
    clock.advance(1);
    d.tick();
    expect(ends).toEqual(['arp_fail 1']);
  });

  it('VRFD-8: holds a bounded number of packets per next hop; the rest is arp_fail', () => {
    const { desk: d, ends } = desk();
    for (const mark of [1, 2, 3, 4]) d.take('eth1', '10.0.0.2', packet(mark));
    expect(ends).toEqual(['arp_fail 4']);
  });

  it('holds a bounded number of next hops and of bytes, and has the room again afterwards', () => {
    const { desk: d, ends } = desk();
    d.take('eth1', '10.0.0.2', packet(1, 600));
    d.take('eth1', '10.0.0.3', packet(2, 600));
    d.take('eth1', '10.0.0.3', packet(3));
    d.take('eth1', '10.0.0.4', packet(4));
    expect(ends).toEqual(['punt_full 2', 'punt_full 4']);
    d.settle('eth1', '10.0.0.2', true);
    d.take('eth1', '10.0.0.4', packet(5, 600));
    expect(ends.slice(2)).toEqual(['back 1']);
  });
});
