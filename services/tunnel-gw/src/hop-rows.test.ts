// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildPacket, type Frame, parseFrame, parseVxlan } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { type HopWay, hopRow } from './hop-rows.js';

const way: HopWay = {
  ifindex: 7,
  sourceMac: '02:00:00:00:00:01',
  nextHopMac: '02:00:00:00:00:02',
  linkMtu: 1600,
  innerSourceMac: '02:44:54:00:00:05',
  innerPeerMac: '02:00:00:00:00:0b',
};
const inner = buildPacket({
  src: '10.1.0.10',
  dst: '203.0.113.9',
  transport: { kind: 'tcp', srcPort: 40_000, dstPort: 80, flags: 2 },
});

const decode = (local: string, remote: string, change: Partial<HopWay> = {}, node = 5) =>
  abi.hop.decode(hopRow(5, node, local, { remote, vni: 4001 }, { ...way, ...change }).value);

/** What the datapath does with the row (encap.h): header in front, then lengths, checksum, entropy and ECN. */
function encapsulate(hop: abi.Hop, packet: Uint8Array, entropy: number, ecn: number): Uint8Array {
  const frame = new Uint8Array(hop.headerLen + packet.length);
  frame.set(hop.header.subarray(0, hop.headerLen));
  frame.set(packet, hop.headerLen);
  const view = new DataView(frame.buffer);
  view.setUint16(hop.headerLen - 2, 0x0800);
  const l3 = hop.outerL3;
  const length = frame.length - l3;
  const udp = l3 + (hop.outerIp6 === 1 ? 40 : 20);
  if (hop.outerIp6 === 1) {
    view.setUint16(l3 + 4, length - 40);
    view.setUint8(l3 + 1, view.getUint8(l3 + 1) | (ecn << 4));
  } else {
    view.setUint16(l3 + 2, length);
    view.setUint8(l3 + 1, view.getUint8(l3 + 1) | ecn);
    // The row's sum is over words as a little-endian machine reads them; so are the words that are added to it.
    const swap = (value: number) => ((value & 0xff) << 8) | (value >>> 8);
    let sum = hop.outerCsum + swap(length) + swap(ecn);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(l3 + 10, ~sum & 0xffff, true);
  }
  view.setUint16(udp, entropy);
  view.setUint16(udp + 4, frame.length - udp);
  return frame;
}

function parsed(bytes: Uint8Array): Frame {
  const frame = parseFrame(bytes);
  if (!frame.ok) throw new Error(`${frame.why}, got ${frame.got}`);
  return frame.value;
}

describe('hopRow', () => {
  it('RFC 7348: with lengths filled in, it is a VXLAN packet in UDP in IPv4, checksum right for every ECN and length', () => {
    const hop = decode('192.0.2.1', '192.0.2.11');
    for (const ecn of [0, 1, 2, 3]) {
      for (const more of [0, 1, 700, 1400]) {
        const packet = new Uint8Array(inner.length + more);
        packet.set(inner);
        const outer = parsed(encapsulate(hop, packet, 50_123, ecn));
        expect(outer.ethernet).toEqual({ dst: way.nextHopMac, src: way.sourceMac, etherType: 0x0800 });
        expect(outer.ipv4).toMatchObject({
          src: '192.0.2.1',
          dst: '192.0.2.11',
          ttl: 64,
          id: 0,
          dontFragment: true,
          tos: ecn,
        });
        expect(outer.udp).toEqual({ srcPort: 50_123, dstPort: 4789, checksum: 0 });
        const vxlan = parseVxlan(outer.payload);
        if (!vxlan.ok) throw new Error(vxlan.why);
        expect(vxlan.value.header.vni).toBe(4001);
        const within = parsed(vxlan.value.payload);
        expect(within.ethernet).toMatchObject({ dst: way.innerPeerMac, src: way.innerSourceMac });
        expect(within.tcp).toMatchObject({ srcPort: 40_000, dstPort: 80 });
      }
    }
  });

  it('RFC 6935: over IPv6 with UDP checksum 0, hop limit 64', () => {
    const hop = decode('2001:db8::1', '2001:db8::11');
    const outer = parsed(encapsulate(hop, inner, 49_152, 2));
    expect(outer.ethernet.etherType).toBe(0x86dd);
    expect(outer.ipv6).toMatchObject({ src: '2001:db8::1', dst: '2001:db8::11', hopLimit: 64 });
    expect(outer.udp).toEqual({ srcPort: 49_152, dstPort: 4789, checksum: 0 });
    expect(hop).toMatchObject({ outerIp6: 1, outerCsum: 0, headerLen: 84 });
    expect(parseVxlan(outer.payload)).toMatchObject({ ok: true, value: { header: { vni: 4001 } } });
  });

  it('leaves room for what it puts in front', () => {
    expect(decode('192.0.2.1', '192.0.2.11')).toMatchObject({
      mtu: 1600 - 50,
      headerLen: 64,
      ifindex: 7,
      node: 5,
    });
    expect(decode('2001:db8::1', '2001:db8::11').mtu).toBe(1600 - 70);
  });

  it('is there, and not usable, until next hop and inner peer are resolved; a VTI needs no inner peer', () => {
    expect(decode('192.0.2.1', '192.0.2.11', { nextHopMac: null }).mtu).toBe(0);
    expect(decode('192.0.2.1', '192.0.2.11', { innerPeerMac: null }).mtu).toBe(0);
    expect(decode('192.0.2.1', '192.0.2.11', { innerPeerMac: null }, 0).mtu).toBe(1550);
    expect(decode('192.0.2.1', '192.0.2.11', { nextHopMac: null }, 0).mtu).toBe(0);
  });

  it('stands at its number in either bank', () => {
    const row = hopRow(5, 5, '192.0.2.1', { remote: '192.0.2.11', vni: 1 }, way);
    const index = (bank: number) => new DataView(row.key(bank).buffer).getUint32(0, true);
    expect([index(0), index(1)]).toEqual([5, abi.DetourLimit.DT_MAX_HOPS + 5]);
  });
});
