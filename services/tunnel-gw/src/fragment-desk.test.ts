// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { FragmentDesk, type FragmentDeskOptions } from './fragment-desk.js';
import type { HeldPacket } from './punt-desk.js';

const packet = (mark: number, bytes = 1): HeldPacket => ({
  frame: new Uint8Array(bytes).fill(mark),
  op: 1,
  port: 1,
  node: 0,
});

function desk(change: Partial<FragmentDeskOptions> = {}) {
  const clock = manualClock();
  const ends: string[] = [];
  const marks = (packets: readonly HeldPacket[]) => packets.map((one) => one.frame[0]).join();
  const made = new FragmentDesk({
    holdMs: 1_000,
    maxPacketsPerDatagram: 3,
    maxDatagrams: 2,
    maxBytes: 100,
    monoMs: () => clock.monoMs(),
    putBack: (packets) => ends.push(`back ${marks(packets)}`),
    dropHeld: (packets) => ends.push(`drop ${marks(packets)}`),
    ...change,
  });
  return { desk: made, clock, ends };
}

describe('FragmentDesk', () => {
  it('holds fragments until their first has come, and puts them back in their order', () => {
    const { desk: d, ends } = desk();
    d.take('one', packet(1));
    d.take('two', packet(2));
    d.take('one', packet(3));
    d.settle('three');
    expect(ends).toEqual([]);
    d.settle('one');
    d.settle('one');
    expect(ends).toEqual(['back 1,3']);
    expect(d.counts).toEqual({ held: 3, followed: 2, expired: 0, refused: 0 });
  });

  it('puts back what has waited its time, where the datapath decides', () => {
    const { desk: d, clock, ends } = desk();
    d.take('one', packet(1));
    clock.advance(600);
    d.take('two', packet(2));
    d.take('one', packet(3));
    clock.advance(399);
    d.tick();
    expect(ends).toEqual([]);
    clock.advance(1);
    d.tick();
    expect(ends).toEqual(['back 1,3']);
    clock.advance(600);
    d.tick();
    expect(ends).toEqual(['back 1,3', 'back 2']);
    expect(d.counts.expired).toBe(3);
  });

  it('is bounded in packets of a datagram, in datagrams, and in bytes', () => {
    const { desk: d, ends } = desk();
    for (const mark of [1, 2, 3, 4]) d.take('one', packet(mark));
    expect(ends).toEqual(['drop 4']);
    d.take('two', packet(5));
    d.take('three', packet(6));
    expect(ends).toEqual(['drop 4', 'drop 6']);
    d.take('two', packet(7, 97));
    expect(ends).toEqual(['drop 4', 'drop 6', 'drop 7']);
    d.take('two', packet(8, 96));
    d.settle('one');
    d.settle('two');
    d.take('three', packet(9, 100));
    expect(ends.slice(3)).toEqual(['back 1,2,3', 'back 5,8']);
    expect(d.counts.refused).toBe(3);
  });
});
