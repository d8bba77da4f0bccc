// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { manualClock } from '@detour/core';
import { parseFrame, TCP_FLAG } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import type { HeldPacket } from './punt-desk.js';
import { type LostSegment, ResetDesk } from './reset-desk.js';

const { rst, syn, ack } = TCP_FLAG;
const V4 = { src: '10.1.0.10', dst: '203.0.113.9' } as const;
const V6 = { src: '2001:db8:1::10', dst: '2001:db8:2::9' } as const;
const lost = (change: Partial<LostSegment> = {}): LostSegment => ({
  ...{ ...V4, srcPort: 40_000, dstPort: 443, seq: 1000, ack: 7000, flags: ack, dataBytes: 100 },
  ...{ port: 3, first: true, ...change },
});

function desk(resetsPerS = 100) {
  const clock = manualClock();
  const back: HeldPacket[] = [];
  const options = { resetsPerS, monoMs: () => clock.monoMs() };
  return { desk: new ResetDesk({ ...options, putBack: (packets) => back.push(...packets) }), clock, back };
}

/** Who is told, and which number. */
function told({ frame }: HeldPacket): unknown {
  const parsed = parseFrame(frame);
  if (!parsed.ok) throw new Error(parsed.why);
  const { ipv4, ipv6, tcp } = parsed.value;
  return [(ipv4 ?? ipv6)?.dst, tcp?.seq, tcp && (tcp.flags & rst) !== 0];
}

describe('ResetDesk', () => {
  it.each([V4, V6])('tells both ends, by the routing table of the VRF of the port: $src', (ends) => {
    const { desk: d, back } = desk();
    d.take(lost(ends));
    expect(back.map(({ op, port, node }) => [op, port, node])).toEqual(
      Array(2).fill([abi.InjectOp.INJECT_LEAVE, 3, 0]),
    );
    expect(back.map(told)).toEqual([
      [ends.src, 7000, true],
      [ends.dst, 1000, true],
    ]);
    expect(d.counts).toEqual({ sent: 2, limited: 0 });
  });

  it('tells the sender alone once both were told, and of a SYN', () => {
    const { desk: d, back } = desk();
    d.take(lost({ first: false }));
    d.take(lost({ flags: syn, ack: 0, dataBytes: 0 }));
    expect(back.map(told)).toEqual([
      [V4.src, 7000, true],
      [V4.src, 0, true],
    ]);
  });

  it('sends so many a second and no more, and never tells half of a connection', () => {
    const { desk: d, clock, back } = desk(5);
    for (let i = 0; i < 3; i++) d.take(lost());
    expect([back.length, d.counts]).toEqual([4, { sent: 4, limited: 2 }]);
    d.take(lost({ first: false }));
    clock.advance(400);
    d.take(lost());
    d.take(lost());
    expect([back.length, d.counts]).toEqual([7, { sent: 7, limited: 4 }]);
  });
});
