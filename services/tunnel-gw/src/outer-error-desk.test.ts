// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { manualClock, type Tuple } from '@detour/core';
import {
  buildEthernet,
  buildFrame,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildPacket,
  checksum,
  concatBytes,
  type IcmpErrorNews,
} from '@detour/wire';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hopRow } from './hop-rows.js';
import type { TunnelModel } from './model.js';
import { OuterErrorDesk, type TunnelHop } from './outer-error-desk.js';
import { PathMtus } from './path-mtus.js';
import type { HeldPacket } from './punt-desk.js';

const way = {
  ...{ ifindex: 7, sourceMac: '02:00:00:00:00:01', nextHopMac: '02:00:00:00:00:02', linkMtu: 1500 },
  ...{ innerSourceMac: '02:44:54:00:00:05', innerPeerMac: '02:00:00:00:00:0b' },
};
const LOCAL = { 4: '192.0.2.1', 6: '2001:db8:ff::1' } as const;
const vxlan = (remote: string, tag: number): TunnelModel => ({
  ...{ protocol: 'vxlan', remote, tag, l3: false, checksum: false },
});
const hopOf = (model: TunnelModel, local?: string): abi.Hop => {
  const from = local ?? (model.remote.includes(':') ? LOCAL[6] : LOCAL[4]);
  return abi.hop.decode(hopRow(5, 1, from, model, way).value);
};
const tunnel = (node: number, model: TunnelModel): TunnelHop => ({
  ...{ remote: model.remote, vrf: 1, node, port: 0, hop: hopOf(model) },
});
const tunnels = [
  tunnel(1, vxlan('192.0.2.11', 4001)),
  tunnel(2, vxlan('192.0.2.11', 4002)),
  tunnel(3, vxlan('2001:db8:ff::13', 4003)),
  tunnel(4, { protocol: 'geneve', remote: '192.0.2.14', tag: 7, l3: false, checksum: false }),
  tunnel(5, { protocol: 'geneve', remote: '192.0.2.15', tag: 7, l3: true, checksum: true }),
  tunnel(6, { protocol: 'gre', remote: '192.0.2.16', tag: null, l3: true, checksum: false }),
  tunnel(7, { protocol: 'gre', remote: '192.0.2.17', tag: 9, l3: true, checksum: true }),
  tunnel(8, { protocol: 'gre', remote: '2001:db8:ff::18', tag: 9, l3: false, checksum: false }),
];
const INNER = buildPacket({
  ...{ src: '10.1.0.10', dst: '203.0.113.9', payload: new Uint8Array(1410) },
  transport: { kind: 'tcp', srcPort: 40_000, dstPort: 80 },
});
const INNER6 = buildPacket({
  ...{ src: '2001:db8:1::10', dst: '2001:db8:2::9', payload: new Uint8Array(1390) },
  transport: { kind: 'tcp', srcPort: 40_000, dstPort: 80 },
});

/** An outer packet as the datapath makes it from a hop row (encap.h). */
function outerPacket(hop: abi.Hop, inner: Uint8Array): Uint8Array {
  const packet = concatBytes(hop.header.subarray(hop.outerL3, hop.headerLen), inner);
  const view = new DataView(packet.buffer);
  view.setUint16(hop.typeAt - hop.outerL3, (inner[0] ?? 0) >>> 4 === 6 ? 0x86dd : 0x0800);
  const v6 = hop.outerIp6 === 1;
  view.setUint16(v6 ? 4 : 2, packet.length - (v6 ? 40 : 0));
  view.setUint8(1, view.getUint8(1) | (v6 ? 0x20 : 2)); // ECT(0)
  if (!v6) view.setUint16(10, checksum(packet.subarray(0, 20)));
  const l4 = v6 ? 40 : 20;
  if (packet[v6 ? 6 : 9] === 17) {
    view.setUint16(l4, 51_000);
    view.setUint16(l4 + 4, packet.length - l4);
  } else if ((hop.flags & abi.HopFlag.HOP_CHECKSUM) !== 0) view.setUint16(l4 + 4, 0xbeef);
  return packet;
}

interface Outer {
  readonly hop?: abi.Hop;
  readonly inner?: Uint8Array;
  readonly quote?: number;
}

/** What a router says of an outer packet. */
function error(type: number, code: number, rest: number, outer: Outer = {}): Uint8Array {
  const hop = outer.hop ?? hopOf(vxlan('192.0.2.11', 4001));
  const v6 = hop.outerIp6 === 1;
  const quoted = outerPacket(hop, outer.inner ?? INNER).subarray(0, outer.quote ?? 528);
  const ends = v6 ? { src: '2001:db8:ff::99', dst: LOCAL[6] } : { src: '192.0.2.99', dst: LOCAL[4] };
  const message = buildIcmp({ type, code, rest }, quoted, v6 ? ends : undefined);
  const ip = v6
    ? buildIpv6({ ...ends, nextHeader: 58 }, message)
    : buildIpv4({ ...ends, protocol: 1 }, message);
  return buildEthernet({ dst: way.sourceMac, src: way.nextHopMac, etherType: v6 ? 0x86dd : 0x0800 }, ip);
}

function desk(through = true) {
  const clock = manualClock();
  const pathMtus = new PathMtus(() => clock.monoMs());
  const learnt: [string, number, string][] = [];
  const told: [HeldPacket, IcmpErrorNews][] = [];
  const asked: [number, Tuple][] = [];
  const made = new OuterErrorDesk({
    hops: () => tunnels,
    pathMtus,
    onPathMtu: (remote, mtu, router) => learnt.push([remote, mtu, router]),
    isThrough: ({ node }, tuple) => {
      asked.push([node, tuple]);
      return through;
    },
    tell: (packet, news) => told.push([packet, news]),
  });
  return { desk: made, pathMtus, learnt, told, asked };
}

describe('an ICMP error about an outer packet', () => {
  it('that it is too big: what fits is kept, and the inner source told what is left of it', () => {
    const { desk: d, learnt, told, asked } = desk();
    d.take(error(3, 4, 1400));
    expect(learnt).toEqual([['192.0.2.11', 1400, '192.0.2.99']]);
    expect(asked.map(([node, { sport, dport, proto }]) => [node, sport, dport, proto])).toEqual([
      [1, 40_000, 80, 6],
    ]);
    const [[packet, news] = [], ...more] = told;
    expect([news, more]).toEqual([{ kind: 'too-big', mtu: 1350 }, []]);
    expect([packet?.op, packet?.node]).toEqual([abi.InjectOp.INJECT_RETURN, 1]);
    expect(packet?.frame.subarray(14)).toEqual(INNER.subarray(0, 528 - 50));
    d.take(error(3, 4, 1400));
    expect([learnt.length, told.length, d.counts]).toEqual([
      1,
      2,
      { learnt: 1, passedOn: 2, foreign: 0, refused: 0 },
    ]);
  });

  it.each(tunnels.map((one) => [one.node, one] as const))(
    'of tunnel %i: every kind is known by what its row fixes, with either family inside',
    (node, { hop, remote }) => {
      const v6 = hop.outerIp6 === 1;
      for (const inner of [INNER, INNER6]) {
        const { desk: d, learnt, told } = desk();
        d.take(error(v6 ? 2 : 3, v6 ? 0 : 4, 1300, { hop, inner }));
        expect(learnt.map(([end, mtu]) => [end, mtu])).toEqual([[remote, 1300]]);
        const fits = 1300 - (hop.headerLen - hop.outerL3);
        expect(told.map(([held, news]) => [held.node, news])).toEqual([
          [node, { kind: 'too-big', mtu: fits }],
        ]);
        expect(told[0]?.[0].frame.subarray(14)).toEqual(
          inner.subarray(0, 528 - (hop.headerLen - hop.outerL3)),
        );
      }
    },
  );

  it('that quotes no more than the outer headers (RFC 792): what fits is kept, nobody is told', () => {
    for (const quote of [28, 36, 50, 77]) {
      const { desk: d, learnt, told } = desk();
      d.take(error(3, 4, 1400, { quote }));
      expect([quote, learnt.length, told.length]).toEqual([quote, 1, 0]);
    }
  });

  it('about IPv4 that may be cut: nobody needs to know', () => {
    const inner = buildPacket({
      ...{ src: '10.1.0.10', dst: '203.0.113.9', payload: new Uint8Array(1410) },
      ...{ transport: { kind: 'udp', srcPort: 5, dstPort: 6 }, ipv4: { dontFragment: false } },
    });
    const { desk: d, learnt, told } = desk();
    d.take(error(3, 4, 1400, { inner }));
    expect([learnt.length, told.length]).toEqual([1, 0]);
  });

  it.each([
    ['unreachable', error(3, 1, 0)],
    ['port unreachable', error(3, 3, 0)],
    ['time exceeded', error(11, 0, 0)],
    ['IPv6 unreachable', error(1, 0, 0, { hop: hopOf(vxlan('2001:db8:ff::13', 4003)) })],
  ])('that is %s: the inner source hears that its packet was not delivered', (_name, frame) => {
    const { desk: d, learnt, told } = desk();
    d.take(frame);
    expect([learnt, told.map(([, news]) => news)]).toEqual([[], [{ kind: 'unreachable' }]]);
  });

  it.each([
    ['to another remote end', error(3, 4, 1400, { hop: hopOf(vxlan('192.0.2.12', 4001)) })],
    ['from another address', error(3, 4, 1400, { hop: hopOf(vxlan('192.0.2.11', 4001), '192.0.2.2') })],
    ['of another network identifier', error(3, 4, 1400, { hop: hopOf(vxlan('192.0.2.11', 4009)) })],
    [
      'of another kind of tunnel',
      error(3, 4, 1400, { hop: hopOf({ ...vxlan('192.0.2.11', 4001), protocol: 'geneve' }) }),
    ],
    [
      'with another key',
      error(3, 4, 1400, {
        hop: hopOf({ protocol: 'gre', remote: '192.0.2.17', tag: 10, l3: true, checksum: true }),
      }),
    ],
  ])('that quotes a packet %s is not about ours', (_name, frame) => {
    const { desk: d, learnt, told } = desk();
    d.take(frame);
    expect([learnt, told, d.counts.foreign]).toEqual([[], [], 1]);
  });

  it('that quotes a flow which does not pass this tunnel is not passed on', () => {
    const { desk: d, told } = desk(false);
    d.take(error(3, 1, 0));
    expect([told, d.counts.foreign]).toEqual([[], 1]);
  });

  it('that is damaged, or of another kind, is refused', () => {
    const { desk: d, learnt, told } = desk();
    const damaged = error(3, 4, 1400);
    damaged[100] = (damaged[100] ?? 0) ^ 1;
    const damaged6 = error(2, 0, 1300, { hop: hopOf(vxlan('2001:db8:ff::13', 4003)) });
    damaged6[100] = (damaged6[100] ?? 0) ^ 1;
    const udp = buildFrame({
      src: '192.0.2.99',
      dst: LOCAL[4],
      transport: { kind: 'udp', srcPort: 1, dstPort: 2 },
    });
    for (const frame of [
      damaged,
      damaged6,
      error(11, 1, 0),
      error(12, 0, 0),
      error(4, 0, 0),
      udp,
      new Uint8Array(3),
    ])
      d.take(frame);
    expect([learnt, told, d.counts.refused]).toEqual([[], [], 7]);
  });

  it('takes any bytes without throwing', () => {
    const { desk: d } = desk();
    const whole = error(3, 1, 0);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: whole.length }),
        fc.uint8Array({ maxLength: 8 }),
        (cut, noise) => {
          const frame = whole.slice(0, cut);
          frame.set(noise.subarray(0, Math.max(0, cut - 40)), Math.max(0, Math.min(40, cut - 8)));
          d.take(frame);
        },
      ),
    );
  });
});
