// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildPacket, type Frame, parseFrame, parseGeneve, parseGre, parseVxlan } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { type HopWay, hopRow } from './hop-rows.js';
import type { TunnelModel } from './model.js';
import { describeTunnel, overheadBytes } from './tunnel-kind.js';

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

const vxlan = (remote: string): TunnelModel => ({
  protocol: 'vxlan',
  remote,
  tag: 4001,
  l3: false,
  checksum: false,
});
const decode = (local: string, remote: string, change: Partial<HopWay> = {}, node = 5) =>
  abi.hop.decode(hopRow(5, node, local, vxlan(remote), { ...way, ...change }).value);

/** What the datapath does with the row (encap.h): header in front, then lengths, checksum, entropy and ECN. */
function encapsulate(hop: abi.Hop, packet: Uint8Array, entropy: number, ecn: number): Uint8Array {
  const frame = new Uint8Array(hop.headerLen + packet.length);
  frame.set(hop.header.subarray(0, hop.headerLen));
  frame.set(packet, hop.headerLen);
  const view = new DataView(frame.buffer);
  view.setUint16(hop.typeAt, 0x0800);
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
  if (hop.tunnel === abi.TunnelProto.TUNNEL_GRE || hop.tunnel === abi.TunnelProto.TUNNEL_GRE_PLAIN)
    return frame;
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
        const tunnel = parseVxlan(outer.payload);
        if (!tunnel.ok) throw new Error(tunnel.why);
        expect(tunnel.value.header.vni).toBe(4001);
        const within = parsed(tunnel.value.payload);
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
    const row = hopRow(5, 5, '192.0.2.1', vxlan('192.0.2.11'), way);
    const index = (bank: number) => new DataView(row.key(bank).buffer).getUint32(0, true);
    expect([index(0), index(1)]).toEqual([5, abi.DetourLimit.DT_MAX_HOPS + 5]);
  });
});

describe('hopRow for other kinds of tunnels', () => {
  const kinds = (['192.0.2.11', '2001:db8::11'] as const).flatMap((remote) =>
    ([false, true] as const).flatMap((l3) => [
      { protocol: 'geneve', remote, tag: 5001, l3, checksum: false } as const,
      { protocol: 'gre', remote, tag: null, l3, checksum: false } as const,
      { protocol: 'gre', remote, tag: 0xfedcba98, l3, checksum: false } as const,
    ]),
  );
  const nameOf = (tunnel: TunnelModel) =>
    `${describeTunnel(tunnel)}, ${tunnel.l3 ? 'IP' : 'Ethernet'} inside`;

  it.each(kinds.map((kind) => [nameOf(kind), kind] as const))('%s', (_name, kind) => {
    const local = kind.remote.includes(':') ? '2001:db8::1' : '192.0.2.1';
    const hop = abi.hop.decode(hopRow(5, 5, local, kind, way).value);
    const outer = parsed(encapsulate(hop, inner, 50_123, 1));
    expect(outer.ipv4 ?? outer.ipv6).toMatchObject({ src: local, dst: kind.remote });
    const tunnel = kind.protocol === 'gre' ? parseGre(outer.payload) : parseGeneve(outer.payload);
    if (!tunnel.ok) throw new Error(`${tunnel.why}, got ${tunnel.got}`);
    expect(tunnel.value.header).toMatchObject({
      protocol: kind.l3 ? 0x0800 : 0x6558,
      ...(kind.protocol === 'geneve' ? { vni: 5001 } : kind.tag !== null && { key: kind.tag }),
    });
    const packet = kind.l3 ? tunnel.value.payload : tunnel.value.payload.subarray(14);
    expect([...packet]).toEqual([...inner]);
    expect(hop.mtu).toBe(1600 - overheadBytes(kind));
    // What is in front of the inner packet, the outer Ethernet header apart, is what the MTU leaves room for.
    expect(hop.headerLen - 14).toBe(overheadBytes(kind));
  });

  it('gwlb: all three options, the cookie where the datapath fills it in', () => {
    const gwlb: TunnelModel = {
      protocol: 'geneve',
      remote: '192.0.2.31',
      tag: 0,
      l3: true,
      checksum: false,
      gwlb: { endpoint: 3, attachment: 5 },
    };
    const hop = abi.hop.decode(hopRow(5, 5, '192.0.2.1', gwlb, { ...way, innerPeerMac: null }).value);
    const tunnel = parseGeneve(parsed(encapsulate(hop, inner, 50_123, 0)).payload);
    if (!tunnel.ok) throw new Error(`${tunnel.why}, got ${tunnel.got}`);
    const u64 = (last: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, last);
    expect(tunnel.value.header).toEqual({
      vni: 0,
      protocol: 0x0800,
      control: false,
      critical: false,
      options: [
        { optionClass: 0x0108, type: 1, data: u64(3) },
        { optionClass: 0x0108, type: 2, data: u64(5) },
        { optionClass: 0x0108, type: 3, data: new Uint8Array(4) },
      ],
    });
    expect([...tunnel.value.payload]).toEqual([...inner]);
    expect(hop).toMatchObject({ flags: abi.HopFlag.HOP_COOKIE, patchAt: hop.headerLen - 4, mtu: 1600 - 68 });
  });

  it('metadata: our option, critical, with what is the same for all flows', () => {
    const tunnel: TunnelModel = {
      protocol: 'geneve',
      remote: '2001:db8::11',
      tag: 6001,
      l3: false,
      checksum: false,
      metadata: { tenant: 7, source: '2001:db8::1' },
    };
    const hop = abi.hop.decode(hopRow(5, 5, '2001:db8::1', tunnel, way).value);
    const read = parseGeneve(parsed(encapsulate(hop, inner, 50_123, 0)).payload);
    if (!read.ok) throw new Error(`${read.why}, got ${read.got}`);
    const [option, ...others] = read.value.header.options;
    expect(others).toEqual([]);
    expect(read.value.header).toMatchObject({ vni: 6001, critical: true, protocol: 0x6558 });
    expect(option).toMatchObject({ optionClass: 0xff44, type: 0x81 });
    const whole = Uint8Array.of(0xff, 0x44, 0x81, 12, ...(option?.data ?? []));
    expect(abi.genevePath.decode(whole)).toMatchObject({
      version: 1,
      budget: 63,
      tenant: 7,
      path: 0,
      cookie: 0,
    });
    expect(hop).toMatchObject({ flags: abi.HopFlag.HOP_PATH, patchAt: 14 + 40 + 8 + 8, headerLen: 136 });
  });

  it('with IP inside it needs no inner peer; with a checksum it asks the datapath for one', () => {
    const [geneve] = kinds;
    const row = (change: Partial<TunnelModel>) =>
      abi.hop.decode(
        hopRow(5, 5, '192.0.2.1', { ...(geneve as TunnelModel), ...change }, { ...way, innerPeerMac: null })
          .value,
      );
    expect(row({ l3: true }).mtu).toBe(1600 - 36);
    expect(row({}).mtu).toBe(0);
    expect(row({ checksum: true }).flags).toBe(abi.HopFlag.HOP_CHECKSUM);
  });
});
