// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksum, pseudoSum } from './checksum.js';
import { buildPacket } from './frame.js';
import { buildIcmp, parseIcmp } from './icmp.js';
import { icmpErrorAbout } from './icmp-error.js';
import { buildIpv4, parseIpv4 } from './ipv4.js';
import { buildIpv6, buildIpv6Extension, buildIpv6Fragment, parseIpv6 } from './ipv6.js';

const V4 = { src: '10.1.0.5', dst: '203.0.113.9' } as const;
const V6 = { src: '2001:db8:1::5', dst: '2001:db8:2::9' } as const;
const FROM = { 4: '10.1.0.1', 6: '2001:db8:1::1' } as const;
const tcp = { kind: 'tcp', srcPort: 40_000, dstPort: 443 } as const;
const tooBig = { kind: 'too-big', mtu: 1450 } as const;

function said(packet: Uint8Array, from: string, news: Parameters<typeof icmpErrorAbout>[2]) {
  const made = icmpErrorAbout(packet, from, news);
  if (!made.ok) throw new Error(`${made.why}, got ${made.got}`);
  const ip = from.includes(':') ? parseIpv6(made.value) : parseIpv4(made.value);
  if (!ip.ok) throw new Error(ip.why);
  const { src, dst } = ip.value.header;
  const start = from.includes(':') ? pseudoSum({ src, dst, protocol: 58 }, ip.value.payload.length) : 0;
  expect(checksum(ip.value.payload, start)).toBe(0);
  const icmp = parseIcmp(ip.value.payload);
  if (!icmp.ok) throw new Error(icmp.why);
  return { src, dst, length: made.value.length, ...icmp.value.header, quote: icmp.value.payload };
}

describe('icmpErrorAbout', () => {
  it('says what fits: fragmentation needed (RFC 1191) and packet too big (RFC 8201)', () => {
    const four = buildPacket({ ...V4, transport: tcp, payload: new Uint8Array(1460).fill(7) });
    const answer = said(four, FROM[4], tooBig);
    expect(answer).toMatchObject({ src: FROM[4], dst: V4.src, type: 3, code: 4, rest: 1450, length: 576 });
    expect(answer.quote).toEqual(four.subarray(0, 548));
    const six = buildPacket({ ...V6, transport: tcp, payload: new Uint8Array(1440).fill(7) });
    const answer6 = said(six, FROM[6], tooBig);
    expect(answer6).toMatchObject({ src: FROM[6], dst: V6.src, type: 2, code: 0, rest: 1450, length: 1280 });
    expect(answer6.quote).toEqual(six.subarray(0, 1232));
  });

  it('never says less than 1280 about IPv6, which nobody would believe', () => {
    const six = buildPacket({ ...V6, transport: tcp, payload: new Uint8Array(1440) });
    expect(said(six, FROM[6], { kind: 'too-big', mtu: 1200 }).rest).toBe(1280);
  });

  it('says that a packet cannot be delivered, and quotes what there is of it', () => {
    const four = buildPacket({ ...V4, transport: tcp, payload: new Uint8Array(100) }).subarray(0, 28);
    expect(said(four, FROM[4], { kind: 'unreachable' })).toMatchObject({
      type: 3,
      code: 1,
      rest: 0,
      quote: four,
    });
    const six = buildPacket({ ...V6, transport: tcp, payload: new Uint8Array(100) }).subarray(0, 48);
    expect(said(six, FROM[6], { kind: 'unreachable' })).toMatchObject({
      type: 1,
      code: 3,
      rest: 0,
      quote: six,
    });
  });

  it('leaves padding behind the packet out of the quotation', () => {
    const four = buildPacket({ ...V4, transport: tcp });
    const padded = new Uint8Array(60);
    padded.set(four);
    expect(said(padded, FROM[4], tooBig).quote).toEqual(four);
  });

  const udp = new Uint8Array(16);
  const icmp6 = (type: number, ends: { src: string; dst: string } = V6) =>
    buildIcmp({ type, code: 0, rest: 0 }, udp, ends);
  it.each([
    ['an ICMP error', buildIpv4({ ...V4, protocol: 1 }, buildIcmp({ type: 3, code: 1, rest: 0 }, udp)), 4],
    ['a redirect', buildIpv4({ ...V4, protocol: 1 }, buildIcmp({ type: 5, code: 1, rest: 0 }, udp)), 4],
    ['a later fragment', buildIpv4({ ...V4, protocol: 17, fragmentOffset: 9 }, udp), 4],
    ['a source that is many', buildIpv4({ ...V4, src: '224.0.0.9', protocol: 17 }, udp), 4],
    ['a source that is nobody', buildIpv4({ ...V4, src: '0.0.0.0', protocol: 17 }, udp), 4],
    ['multicast', buildIpv4({ ...V4, dst: '224.0.0.9', protocol: 17 }, udp), 4],
    ['an ICMPv6 error', buildIpv6({ ...V6, nextHeader: 58 }, icmp6(1)), 6],
    [
      'an ICMPv6 error behind options',
      buildIpv6({ ...V6, nextHeader: 0 }, buildIpv6Extension(58, 8, icmp6(3))),
      6,
    ],
    ['an ICMPv6 redirect', buildIpv6({ ...V6, nextHeader: 58 }, icmp6(137)), 6],
    ['an unspecified source', buildIpv6({ ...V6, src: '::', nextHeader: 17 }, udp), 6],
    ['IPv6 multicast', buildIpv6({ ...V6, dst: 'ff02::1', nextHeader: 17 }, udp), 6],
    [
      'a later IPv6 fragment',
      buildIpv6(
        { ...V6, nextHeader: 44 },
        buildIpv6Fragment({ nextHeader: 17, offset: 9, more: false, id: 1 }, udp),
      ),
      6,
    ],
    ['a packet of the other family', buildIpv6({ ...V6, nextHeader: 17 }, udp), 4],
    ['less than a header and 8 bytes', buildIpv4({ ...V4, protocol: 17 }, new Uint8Array(7)), 4],
  ] as const)('nobody is told about %s', (_name, packet, family) => {
    expect(icmpErrorAbout(packet, FROM[family], tooBig)).toMatchObject({ ok: false });
  });

  it('an echo request is told about, as a datagram is', () => {
    const echo = buildPacket({ ...V6, transport: { kind: 'echo', identifier: 1 } });
    expect(said(echo, FROM[6], tooBig).type).toBe(2);
    expect(
      said(buildPacket({ ...V4, transport: { kind: 'echo', identifier: 1 } }), FROM[4], tooBig).type,
    ).toBe(3);
  });

  it('takes any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x45, 0x4f, 0x60), (bytes, first) => {
        if (bytes.length > 0) bytes[0] = first;
        for (const from of [FROM[4], FROM[6]]) icmpErrorAbout(bytes, from, tooBig);
      }),
      { numRuns: 2000 },
    );
  });
});
