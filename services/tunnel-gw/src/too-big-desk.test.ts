// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { manualClock } from '@detour/core';
import {
  buildFrame,
  buildIcmp,
  buildIpv4,
  concatBytes,
  type FrameFields,
  parseEthernet,
  parseFrame,
  parseIpv4,
} from '@detour/wire';
import { describe, expect, it } from 'vitest';
import type { OwnAddress } from './own-address.js';
import type { HeldPacket } from './punt-desk.js';
import { TooBigDesk, type TooBigDeskOptions } from './too-big-desk.js';

const V4 = { src: '10.1.0.10', dst: '203.0.113.9' } as const;
const V6 = { src: '2001:db8:1::10', dst: '2001:db8:2::9' } as const;
const { INJECT_PORT, INJECT_LEAVE } = abi.InjectOp;

function held(fields: Partial<FrameFields> & { src: string; dst: string }, bytes = 1500): HeldPacket {
  const headers = fields.src.includes(':') ? 60 : 40;
  const transport = { kind: 'tcp', srcPort: 40_000, dstPort: 80 } as const;
  const frame = buildFrame({ transport, payload: new Uint8Array(bytes - headers).fill(3), ...fields });
  return { frame, op: INJECT_PORT, port: 3, node: 0 };
}

function desk(change: Partial<TooBigDeskOptions> = {}) {
  const clock = manualClock();
  const back: HeldPacket[] = [];
  const dropped: HeldPacket[] = [];
  const asked: unknown[] = [];
  const made = new TooBigDesk({
    messagesPerS: 2,
    monoMs: () => clock.monoMs(),
    from: (entered, towards): OwnAddress => {
      asked.push([entered.port, entered.node, towards]);
      return { address: towards.includes(':') ? '2001:db8:1::1' : '10.1.0.1', port: 7 };
    },
    putBack: (packets) => back.push(...packets),
    dropHeld: (packets) => dropped.push(...packets),
    ...change,
  });
  return { desk: made, clock, back, dropped, asked };
}

describe('TooBigDesk', () => {
  it.each([
    ['IPv4 with DF', V4, { type: 3, code: 4 }],
    ['IPv6', V6, { type: 2, code: 0 }],
  ])('%s is dropped, and its source told what fits', (_name, ends, message) => {
    const { desk: d, back, dropped, asked } = desk();
    d.take(held(ends), 1450);
    expect(asked).toEqual([[3, 0, ends.src]]);
    const [answer, ...more] = back;
    expect([answer?.op, answer?.port, more]).toEqual([INJECT_LEAVE, 7, []]);
    const parsed = parseFrame(answer?.frame ?? new Uint8Array(0));
    expect(parsed).toMatchObject({ ok: true, value: { icmp: { ...message, rest: 1450 } } });
    expect(dropped).toHaveLength(1);
    expect(d.counts).toEqual({ told: 1, cut: 0, silent: 0, limited: 0 });
  });

  it('IPv4 without DF is cut, and the pieces go on where it was held', () => {
    const { desk: d, back, dropped } = desk();
    const packet = held({ ...V4, ipv4: { dontFragment: false, id: 9 } });
    d.take(packet, 1450);
    expect(dropped).toEqual([]);
    expect(back.map(({ op, port, node }) => [op, port, node])).toEqual([
      [INJECT_PORT, 3, 0],
      [INJECT_PORT, 3, 0],
    ]);
    const pieces = back.map(({ frame }) => {
      expect(frame.subarray(0, 14)).toEqual(packet.frame.subarray(0, 14));
      const ip = parseIpv4(frame.subarray(14));
      if (!ip.ok) throw new Error(ip.why);
      return ip.value;
    });
    expect(pieces.map(({ header }) => [header.id, header.fragmentOffset, header.moreFragments])).toEqual([
      [9, 0, true],
      [9, 178, false],
    ]);
    expect(concatBytes(...pieces.map(({ payload }) => payload))).toEqual(packet.frame.subarray(34));
    expect(d.counts.cut).toBe(1);
  });

  it('what may be cut and is not all there, or does not fit in pieces, is dropped', () => {
    const { desk: d, back, dropped } = desk();
    const packet = held({ ...V4, ipv4: { dontFragment: false } });
    d.take({ ...packet, frame: packet.frame.subarray(0, 1000) }, 1450);
    d.take(packet, 27);
    expect([back.length, dropped.length, d.counts.silent]).toEqual([0, 2, 2]);
  });

  it('tells nobody about an ICMP error, nor where it has no address to speak from', () => {
    const { desk: d, back, dropped } = desk({ from: () => null });
    d.take(held(V4), 1450);
    const told = desk();
    const error = buildIpv4(
      { ...V4, protocol: 1 },
      buildIcmp({ type: 3, code: 1, rest: 0 }, new Uint8Array(1460)),
    );
    told.desk.take({ ...held(V4), frame: concatBytes(held(V4).frame.subarray(0, 14), error) }, 1450);
    expect([back.length, told.back.length, dropped.length, told.dropped.length]).toEqual([0, 0, 1, 1]);
    expect([d.counts.silent, told.desk.counts.silent]).toEqual([1, 1]);
  });

  it('tells nobody that an IPv6 packet of 1280 bytes is too big: no sender would make a smaller one', () => {
    const { desk: d, back, dropped } = desk();
    d.take(held(V6, 1280), 1200);
    expect([back.length, dropped.length, d.counts.silent]).toEqual([0, 1, 1]);
    d.take(held(V6, 1281), 1200);
    expect(d.counts.told).toBe(1);
  });

  it('says so many things a second and no more; the packets are dropped all the same', () => {
    const { desk: d, clock, back, dropped } = desk();
    for (let i = 0; i < 4; i++) d.take(held(V4), 1450);
    expect([back.length, dropped.length, d.counts.limited]).toEqual([2, 4, 2]);
    clock.advance(500);
    d.take(held(V4), 1450);
    d.take(held(V4), 1450);
    expect([back.length, d.counts.limited]).toEqual([3, 3]);
  });

  it('drops no more bytes than are needed to count', () => {
    const { desk: d, dropped } = desk();
    d.take(held(V4, 9000), 1450);
    expect(dropped[0]?.frame.length).toBe(128);
    expect(parseEthernet(dropped[0]?.frame ?? new Uint8Array(0)).ok).toBe(true);
  });
});
