// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildEthernet } from './ethernet.js';
import { parseFrame } from './frame.js';
import { TCP_FLAG } from './tcp.js';
import { resetForReceiver, resetForSender, type Segment } from './tcp-reset.js';

const { fin, syn, rst, psh, ack } = TCP_FLAG;
const V4 = { src: '10.1.0.10', dst: '203.0.113.9' } as const;
const V6 = { src: '2001:db8:1::10', dst: '2001:db8:2::9' } as const;
const segment = (change: Partial<Segment> = {}): Segment => ({
  ...{ ...V4, srcPort: 40_000, dstPort: 443, seq: 1000, ack: 7000, flags: ack | psh, dataBytes: 100 },
  ...change,
});

/** Refused unless every length and checksum is right. */
function read(packet: Uint8Array | null) {
  if (packet === null) return null;
  const v6 = (packet[0] ?? 0) >>> 4 === 6;
  const macs = { dst: '02:00:00:00:00:01', src: '02:00:00:00:00:02' };
  const parsed = parseFrame(buildEthernet({ ...macs, etherType: v6 ? 0x86dd : 0x0800 }, packet));
  if (!parsed.ok || parsed.value.tcp === undefined) throw new Error('no TCP segment');
  const { tcp, ipv4, ipv6, payload } = parsed.value;
  const { srcPort, dstPort, seq, ack: acknowledged, flags, window } = tcp;
  const { src, dst } = ipv4 ?? ipv6 ?? { src: '', dst: '' };
  return { src, dst, srcPort, dstPort, seq, ack: acknowledged, flags, window, bytes: payload.length };
}

describe('resets', () => {
  it.each([V4, V6])('to both ends, each with the number that it expects: $src', (ends) => {
    const one = segment(ends);
    expect(read(resetForSender(one))).toEqual({
      ...{ src: ends.dst, dst: ends.src, srcPort: 443, dstPort: 40_000 },
      ...{ seq: 7000, ack: 0, flags: rst, window: 0, bytes: 0 },
    });
    expect(read(resetForReceiver(one))).toEqual({
      ...{ src: ends.src, dst: ends.dst, srcPort: 40_000, dstPort: 443 },
      ...{ seq: 1000, ack: 7000, flags: rst | ack, window: 0, bytes: 0 },
    });
  });

  it.each([
    ['a SYN', { flags: syn, ack: 0, dataBytes: 0 }, 1001],
    ['a SYN with data', { flags: syn, ack: 0, dataBytes: 4 }, 1005],
    ['a FIN without ACK', { flags: fin, ack: 0, dataBytes: 2 }, 1003],
    ['one whose number comes to its end', { flags: syn, seq: 0xffffffff, dataBytes: 0 }, 0],
  ])(
    'to the sender of %s, which says nothing of what it expects: what it acknowledges',
    (_what, change, acknowledged) => {
      expect(read(resetForSender(segment(change)))).toMatchObject({
        ...{ seq: 0, ack: acknowledged, flags: rst | ack },
      });
    },
  );

  it('to an end that waits for SYN ACK: with the acknowledgement that it must see', () => {
    expect(read(resetForReceiver(segment({ flags: syn | ack, dataBytes: 0 })))).toMatchObject({
      ...{ seq: 1000, ack: 7000, flags: rst | ack },
    });
  });

  it('nobody is told who cannot know the connection, nor anybody of an RST', () => {
    expect(resetForReceiver(segment({ flags: syn }))).toBeNull();
    for (const reset of [resetForSender, resetForReceiver])
      for (const flags of [rst, rst | ack]) expect(reset(segment({ flags }))).toBeNull();
  });

  it('are well formed, whatever the segment says', () => {
    const u32 = fc.nat(0xffffffff);
    fc.assert(
      fc.property(
        ...([u32, u32, fc.nat(63), fc.nat(65_000), fc.boolean()] as const),
        (seq, acknowledged, flags, dataBytes, v6) => {
          const one = segment({ seq, ack: acknowledged, flags, dataBytes, ...(v6 ? V6 : V4) });
          for (const answer of [resetForSender(one), resetForReceiver(one)])
            if (answer !== null) expect((read(answer)?.flags ?? 0) & rst).toBe(rst);
        },
      ),
    );
  });
});
