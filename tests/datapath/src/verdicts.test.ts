// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildArp,
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildIpv6Extension,
  buildIpv6Fragment,
  buildPacket,
  buildUdp,
  concatBytes,
  macToBytes,
  parseFrame,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { disagreements, riseOf, sendOne } from './fate.js';
import { CLIENT, macOf, SERVER, UNREACHABLE } from './network.js';
import { openRig, u32 } from './rig.js';
import {
  BRANCH_END,
  BRANCH_HOP,
  clearFlows,
  clientFrame,
  fromRemote,
  hopValue,
  MTU,
  NODES,
  OWN,
  outerFrame,
  PORT,
  publishAll,
  putChain,
  putFlow,
  putPath,
  tunnelKey,
  tunnelValue,
  UNDERLAY,
  VRF,
  VTI_MAC,
} from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;
const ether = (etherType: number, payload: Uint8Array, dst = macOf('inside')): Uint8Array =>
  buildEthernet({ dst, src: CLIENT.mac, etherType }, payload);
const ip6 = (packet: Uint8Array): Uint8Array => ether(0x86dd, packet);
const inner = (packet: Uint8Array, dst = NODES[1].innerSrc): Uint8Array =>
  buildEthernet(
    { dst, src: NODES[1].innerDst, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 },
    packet,
  );
const udp = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;

describe("what is the local stack's", () => {
  it.each([
    [
      'ARP',
      ether(
        0x0806,
        buildArp({
          op: 'request',
          senderMac: CLIENT.mac,
          senderIp: CLIENT.ip4,
          targetMac: macOf('inside'),
          targetIp: OWN.ip4,
        }),
        'ff:ff:ff:ff:ff:ff',
      ),
    ],
    ['an own IPv4 address', clientFrame({ dst: OWN.ip4 })],
    ['an own IPv6 address', clientFrame({ src: CLIENT.ip6, dst: OWN.ip6 })],
    ['IPv4 multicast', clientFrame({ dst: '224.0.0.5', dstMac: '01:00:5e:00:00:05' })],
    [
      'limited broadcast',
      clientFrame({ src: '0.0.0.0', dst: '255.255.255.255', dstMac: 'ff:ff:ff:ff:ff:ff' }),
    ],
    ['IPv6 multicast', clientFrame({ src: CLIENT.ip6, dst: 'ff02::1', dstMac: '33:33:00:00:00:01' })],
    ['IPv6 link-local', clientFrame({ src: CLIENT.ip6, dst: 'fe80::1' })],
    ['a frame for another machine', clientFrame({ dstMac: '02:00:00:00:99:99' })],
    [
      'a fragment for an own address',
      clientFrame({ dst: OWN.ip4, ipv4: { moreFragments: true, dontFragment: false } }),
    ],
  ])('%s passes', (_name, frame) => {
    const fate = sendOne(rig, 'inside', frame);
    expect(fate.end).toBe('passed');
    expect(fate.verdict).toBe('pass');
    expect(toHex(fate.data)).toBe(toHex(frame));
  });

  it('neighbour discovery passes with hop limit 255 and is malformed with any other', () => {
    const message = buildIcmp({ type: 135, code: 0, rest: 0 }, new Uint8Array(16), {
      src: CLIENT.ip6,
      dst: '2001:db8:1::77',
    });
    const solicit = (hopLimit: number): Uint8Array =>
      ip6(buildIpv6({ src: CLIENT.ip6, dst: '2001:db8:1::77', nextHeader: 58, hopLimit }, message));
    expect(end('inside', solicit(255))).toBe('passed');
    expect(end('inside', solicit(64))).toBe('DROP_MALFORMED');
  });

  it.each([CLIENT.ip4, CLIENT.ip6])('a TTL that ends here passes, so that the kernel answers (%s)', (src) => {
    putFlow(rig, { src, dst: src === CLIENT.ip4 ? SERVER.ip4 : SERVER.ip6 });
    expect(
      riseOf(rig, 'STAT_TTL_EXPIRED', () =>
        expect(end('inside', clientFrame({ src, ttl: 1 }))).toBe('passed'),
      ),
    ).toBe(1n);
  });

  it('a device without a port row passes, counted', () => {
    expect(end('stranger', clientFrame())).toBe('passed');
    expect(end('stranger', ether(0x8100, new Uint8Array(40)))).toBe('passed');
  });

  it("the underlay's own traffic passes", () => {
    const bfd = buildUdp({ srcPort: 49152, dstPort: 3784 }, new Uint8Array(24));
    const to = (dst: string): Uint8Array =>
      buildEthernet(
        { dst: macOf('underlay'), src: UNDERLAY.peerMac, etherType: 0x0800 },
        buildIpv4({ src: '192.0.2.11', dst, protocol: 17 }, bfd),
      );
    expect(end('underlay', to(UNDERLAY.ip4))).toBe('passed');
    expect(end('underlay', clientFrame())).toBe('passed');
  });

  it('VXLAN to somebody else is not ours', () => {
    const node = { ...NODES[1], local: '192.0.2.99' };
    expect(
      end(
        'underlay',
        fromRemote(node, inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp }))),
      ),
    ).toBe('passed');
    const six = { ...NODES[3], local: '2001:db8:ff::99' };
    expect(
      end(
        'underlay',
        fromRemote(six, inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp }))),
      ),
    ).toBe('passed');
  });
});

describe('what comes through a tunnel for the gateway itself', () => {
  const own = buildPacket({ src: '10.1.0.77', dst: OWN.ip4, transport: udp });
  const echo = buildPacket({
    src: OWN.ip4,
    dst: OWN.ip4,
    transport: { kind: 'udp', srcPort: 49152, dstPort: 3785 },
    payload: new Uint8Array(24),
    ttl: 254,
  });
  const arp = buildArp({
    op: 'reply',
    senderMac: NODES[1].innerDst,
    senderIp: '10.1.0.77',
    targetMac: VTI_MAC,
    targetIp: OWN.ip4,
  });
  const solicit = buildIpv6(
    { src: 'fe80::7', dst: 'ff02::1:ff00:1', nextHeader: 58, hopLimit: 255 },
    buildIcmp({ type: 135, code: 0, rest: 0 }, new Uint8Array(16), { src: 'fe80::7', dst: 'ff02::1:ff00:1' }),
  );

  it.each([
    ['a packet for an own address', inner(own)],
    ['a BFD echo packet, from us to us', inner(echo)],
    [
      'an ARP reply',
      buildEthernet({ dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: 0x0806 }, arp),
    ],
    [
      'LLDP',
      buildEthernet(
        { dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: 0x88cc },
        new Uint8Array(46),
      ),
    ],
  ])('%s is delivered to the VTI, addressed to its MAC', (_name, frame) => {
    const expected = concatBytes(macToBytes(VTI_MAC), frame.subarray(6));
    for (const end of [NODES[1], NODES[3], BRANCH_END]) {
      const fate = sendOne(rig, 'underlay', fromRemote(end, frame));
      expect(fate).toMatchObject({ end: 'passed', verdict: 'redirect' });
      expect(toHex(fate.data)).toBe(toHex(expected));
    }
  });

  it('multicast keeps its MAC', () => {
    const frame = buildEthernet(
      { dst: '33:33:ff:00:00:01', src: NODES[1].innerDst, etherType: 0x86dd },
      solicit,
    );
    const fate = sendOne(rig, 'underlay', fromRemote(NODES[1], frame));
    expect(fate).toMatchObject({ end: 'passed', verdict: 'redirect' });
    expect(toHex(fate.data)).toBe(toHex(frame));
  });

  it('a returned packet whose TTL a node used up is delivered, so that the kernel answers', () => {
    putFlow(rig, { proto: 17, sport: 5000, dport: 53 });
    const spent = buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp, ttl: 1 });
    expect(sendOne(rig, 'underlay', fromRemote(NODES[1], inner(spent)))).toMatchObject({
      end: 'passed',
      verdict: 'redirect',
    });
  });

  it('is lost with a reason where the VTI has no device', () => {
    rig.put(
      'tunnels',
      tunnelKey(NODES[1], 0),
      tunnelValue(rig, { kind: abi.TunnelKind.TUNNEL_TO_NODE, node: 1, deliverIfindex: 0 }),
    );
    expect(end('underlay', fromRemote(NODES[1], inner(own)))).toBe('DROP_NO_TABLE');
  });
});

describe("what the gateway's kernel sends into a VTI", () => {
  const frame = buildEthernet(
    { dst: BRANCH_END.innerDst, src: VTI_MAC, etherType: 0x0800 },
    buildPacket({ src: '169.254.7.1', dst: '169.254.7.2', transport: udp }),
  );

  it('goes into the tunnel with its own Ethernet header', () => {
    const fate = sendOne(rig, 'vtiInner', frame);
    expect(fate.end).toBe('forwarded');
    expect(toHex(fate.data)).toBe(toHex(outerFrame(BRANCH_END, frame, 0xc000 | BRANCH_HOP)));
  });

  it('goes into a tunnel over IPv6 too', () => {
    rig.put('hops', BRANCH_HOP, hopValue(rig, NODES[3], 3));
    expect(toHex(sendOne(rig, 'vtiInner', frame).data)).toBe(
      toHex(outerFrame(NODES[3], frame, 0xc000 | BRANCH_HOP)),
    );
  });

  it('is dropped while the hop is not resolved, or when it is too long', () => {
    rig.put('hops', BRANCH_HOP, hopValue(rig, BRANCH_END, 0, 0));
    expect(end('vtiInner', frame)).toBe('DROP_HOP_NOT_READY');
    rig.put('hops', BRANCH_HOP, hopValue(rig, BRANCH_END, 0, frame.length - 15));
    expect(end('vtiInner', frame)).toBe('DROP_TOO_BIG');
    rig.put('hops', BRANCH_HOP, hopValue(rig, BRANCH_END, 0, frame.length - 14));
    expect(end('vtiInner', frame)).toBe('forwarded');
  });
});

describe('drops', () => {
  it('DROP_NOT_LIVE: before the first revision only what is for the local stack passes', () => {
    putFlow(rig);
    rig.control({ live: 0 });
    for (const device of ['inside', 'outside'] as const) {
      expect(end(device, clientFrame({ dstMac: macOf(device) }))).toBe('DROP_NOT_LIVE');
      expect(end(device, clientFrame({ dst: OWN.ip4, dstMac: macOf(device) }))).toBe('passed');
    }
    expect(
      end(
        'underlay',
        fromRemote(NODES[1], inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp }))),
      ),
    ).toBe('DROP_NOT_LIVE');
    expect(end('vtiInner', inner(buildPacket({ src: OWN.ip4, dst: '10.7.0.1', transport: udp })))).toBe(
      'DROP_NOT_LIVE',
    );
  });

  it('DROP_UNSUPPORTED: tags, other EtherTypes, extension headers nobody walks', () => {
    expect(end('inside', ether(0x8100, new Uint8Array(46)))).toBe('DROP_UNSUPPORTED');
    expect(end('inside', ether(0x88cc, new Uint8Array(46)))).toBe('DROP_UNSUPPORTED');
    expect(end('inside', ether(0x8847, new Uint8Array(46)))).toBe('DROP_UNSUPPORTED');
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8));
    for (const nextHeader of [51, 59, 135]) {
      expect(end('inside', ip6(buildIpv6({ src: CLIENT.ip6, dst: SERVER.ip6, nextHeader }, body)))).toBe(
        'DROP_UNSUPPORTED',
      );
    }
  });

  it('walks four extension headers, and no fifth', () => {
    putFlow(rig, { src: CLIENT.ip6, dst: SERVER.ip6, proto: 17, sport: 5000, dport: 53 });
    let body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8));
    let next = 17;
    for (const [count, type] of [60, 43, 60, 0, 60].entries()) {
      body = buildIpv6Extension(next, 8, body);
      next = type;
      const fate = end(
        'inside',
        ip6(buildIpv6({ src: CLIENT.ip6, dst: SERVER.ip6, nextHeader: type }, body)),
      );
      expect(fate).toBe(count < 4 ? 'forwarded' : 'DROP_UNSUPPORTED');
    }
    const long = buildIpv6Extension(17, 512, buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8)));
    expect(end('inside', ip6(buildIpv6({ src: CLIENT.ip6, dst: SERVER.ip6, nextHeader: 60 }, long)))).toBe(
      'DROP_UNSUPPORTED',
    );
  });

  it('DROP_FRAGMENT: first and later, IPv4 and IPv6, inner and outer', () => {
    putFlow(rig);
    expect(end('inside', clientFrame({ ipv4: { moreFragments: true, dontFragment: false } }))).toBe(
      'DROP_FRAGMENT',
    );
    expect(end('inside', clientFrame({ ipv4: { fragmentOffset: 100, dontFragment: false } }))).toBe(
      'DROP_FRAGMENT',
    );
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8));
    for (const offset of [0, 185]) {
      const fragment = buildIpv6Fragment({ nextHeader: 17, offset, more: true, id: 1 }, body);
      expect(
        end('inside', ip6(buildIpv6({ src: CLIENT.ip6, dst: SERVER.ip6, nextHeader: 44 }, fragment))),
      ).toBe('DROP_FRAGMENT');
    }
    const vxlan = buildUdp({ srcPort: 5000, dstPort: 4789 }, new Uint8Array(80));
    const first = buildIpv4(
      { src: '192.0.2.11', dst: UNDERLAY.ip4, protocol: 17, moreFragments: true, dontFragment: false },
      vxlan,
    );
    expect(
      end(
        'underlay',
        buildEthernet({ dst: macOf('underlay'), src: UNDERLAY.peerMac, etherType: 0x0800 }, first),
      ),
    ).toBe('DROP_FRAGMENT');
    const first6 = buildIpv6(
      { src: '2001:db8:ff::13', dst: UNDERLAY.ip6, nextHeader: 44 },
      buildIpv6Fragment({ nextHeader: 17, offset: 0, more: true, id: 1 }, vxlan),
    );
    expect(
      end(
        'underlay',
        buildEthernet({ dst: macOf('underlay'), src: UNDERLAY.peerMac, etherType: 0x86dd }, first6),
      ),
    ).toBe('DROP_FRAGMENT');
  });

  it("DROP_SPOOF: sources that are ours, or nobody's", () => {
    for (const src of [OWN.ip4, '127.0.0.1', '0.0.0.0', '224.0.0.9', '255.255.255.255', '240.0.0.1']) {
      expect([src, end('inside', clientFrame({ src }))]).toEqual([src, 'DROP_SPOOF']);
    }
    for (const src of [OWN.ip6, '::', '::1', 'fe80::9', 'ff0e::1']) {
      expect([src, end('inside', clientFrame({ src }))]).toEqual([src, 'DROP_SPOOF']);
    }
    expect(end('inside', clientFrame({ dst: '127.0.0.1' }))).toBe('DROP_SPOOF');
    expect(end('inside', clientFrame({ src: CLIENT.ip6, dst: '::1' }))).toBe('DROP_SPOOF');
  });

  it('DROP_RULE and DROP_UNRESOLVED', () => {
    putFlow(rig, { action: abi.FlowAction.FLOW_DROP });
    expect(end('inside', clientFrame())).toBe('DROP_RULE');
    putFlow(rig, { action: abi.FlowAction.FLOW_DROP, flags: abi.FlowWordFlag.WORD_FLAG_UNRESOLVED });
    expect(end('inside', clientFrame())).toBe('DROP_UNRESOLVED');
  });

  it('DROP_NO_ROUTE and DROP_TOO_BIG on the way out', () => {
    const { FLOW_ALLOW } = abi.FlowAction;
    for (const [src, dst] of [
      [CLIENT.ip4, UNREACHABLE.ip4],
      [CLIENT.ip6, UNREACHABLE.ip6],
    ] as const) {
      putFlow(rig, { src, dst, action: FLOW_ALLOW });
      expect(end('inside', clientFrame({ src, dst }))).toBe('DROP_NO_ROUTE');
    }
    putFlow(rig, { action: FLOW_ALLOW });
    expect(end('inside', clientFrame({ payload: new Uint8Array(1460) }))).toBe('forwarded');
    expect(end('inside', clientFrame({ payload: new Uint8Array(1461) }))).toBe('DROP_TOO_BIG');
  });

  it('DROP_TOO_BIG and DROP_HOP_NOT_READY on the way to a node', () => {
    putFlow(rig);
    expect(end('inside', clientFrame({ payload: new Uint8Array(MTU - 40) }))).toBe('forwarded');
    expect(end('inside', clientFrame({ payload: new Uint8Array(MTU - 39) }))).toBe('DROP_TOO_BIG');
    rig.put('hops', 1, hopValue(rig, NODES[1], 1, 0));
    rig.events();
    expect(end('inside', clientFrame())).toBe('DROP_HOP_NOT_READY');
    expect(end('inside', clientFrame())).toBe('DROP_HOP_NOT_READY');
    const [held, ...more] = rig.events();
    expect(held?.event).toMatchObject({
      type: abi.EventType.EVENT_HOP_NEIGH,
      node: 1,
      oldPath: 1,
      outIfindex: rig.ifindex.underlay,
      packetLen: 0,
    });
    expect(more).toEqual([]);
  });

  it('DROP_TUNNEL_UNKNOWN and DROP_TUNNEL_HEADER', () => {
    const frame = inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp }));
    expect(end('underlay', fromRemote({ ...NODES[1], vni: 4999 }, frame))).toBe('DROP_TUNNEL_UNKNOWN');
    expect(end('underlay', fromRemote({ ...NODES[1], remote: '192.0.2.99' }, frame))).toBe(
      'DROP_TUNNEL_UNKNOWN',
    );
    expect(end('underlay', fromRemote({ ...NODES[3], vni: 4999 }, frame))).toBe('DROP_TUNNEL_UNKNOWN');
    const unflagged = fromRemote(NODES[1], frame);
    unflagged[42] = 0;
    expect(end('underlay', unflagged)).toBe('DROP_TUNNEL_HEADER');
  });

  it('reserved bits of VXLAN are ignored (RFC 7348 5)', () => {
    putFlow(rig, { proto: 17, sport: 5000, dport: 53 });
    const frame = fromRemote(
      NODES[1],
      inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp })),
    );
    frame.set([0xff, 1, 2, 3], 42);
    frame[49] = 9;
    expect(end('underlay', frame)).toBe('forwarded');
  });

  it('DROP_STRICT_RETURN: what was never sent to that node', () => {
    const frame = inner(buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: udp }));
    expect(end('underlay', fromRemote(NODES[1], frame))).toBe('DROP_STRICT_RETURN');
    putFlow(rig, { proto: 17, sport: 5000, dport: 53 });
    expect(end('underlay', fromRemote(NODES[2], frame))).toBe('DROP_STRICT_RETURN');
    expect(end('underlay', fromRemote(NODES[1], frame))).toBe('forwarded');
    putFlow(rig, { proto: 17, sport: 5000, dport: 53, action: abi.FlowAction.FLOW_ALLOW });
    expect(end('underlay', fromRemote(NODES[1], frame))).toBe('DROP_STRICT_RETURN');
    expect(rig.count('port_counters', PORT.underlay, 6)).toBe(0n);
  });

  it('a node that need not be strict may send of its own accord, without a record and without a rule', () => {
    const loose = tunnelValue(rig, { kind: abi.TunnelKind.TUNNEL_TO_NODE, node: 1, strictReturn: 0 });
    rig.put('tunnels', tunnelKey(NODES[1], 0), loose);
    const frame = inner(
      buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: { ...udp, srcPort: 6000 } }),
    );
    expect(end('underlay', fromRemote(NODES[1], frame))).toBe('forwarded');
    expect(rig.events()).toEqual([]);
  });

  it('DROP_NO_TABLE: rows that name rows that are not there', () => {
    putFlow(rig, { chain: 60 });
    expect(end('inside', clientFrame())).toBe('DROP_NO_TABLE');
    putFlow(rig, { chain: 1, path: 1 });
    putPath(rig, 0, 1, { chain: 1, nodes: [77] });
    expect(end('inside', clientFrame())).toBe('DROP_NO_TABLE');
    putPath(rig, 0, 1, { chain: 1, nodes: [] });
    expect(end('inside', clientFrame())).toBe('DROP_NO_TABLE');
    putChain(rig, 0, 1, [1], { valid: 0 });
    expect(end('inside', clientFrame())).toBe('DROP_NO_TABLE');
  });

  it('keep an example of each reason', () => {
    putFlow(rig, { src: '10.1.0.66', action: abi.FlowAction.FLOW_DROP });
    rig.put('drop_examples', abi.DropReason.DROP_RULE, new Uint8Array(abi.dropExample.size));
    const frame = clientFrame({ src: '10.1.0.66' });
    expect(end('inside', frame)).toBe('DROP_RULE');
    const stored = rig.map('drop_examples').lookup(u32(abi.DropReason.DROP_RULE)) ?? new Uint8Array(0);
    const example = abi.dropExample.decode(stored);
    expect(example).toMatchObject({ port: PORT.inside, len: frame.length, ifindex: rig.ifindex.inside });
    expect(example.key).toMatchObject({ vrf: VRF, proto: 6, aport: 40_000, bport: 443 });
  });
});

describe('ICMP errors', () => {
  const quoted = buildPacket({
    src: CLIENT.ip4,
    dst: SERVER.ip4,
    transport: udp,
    payload: new Uint8Array(8),
  });
  const quoted6 = buildPacket({
    src: CLIENT.ip6,
    dst: SERVER.ip6,
    transport: udp,
    payload: new Uint8Array(8),
  });
  const router = { ip4: '198.51.100.9', ip6: '2001:db8:99::9' };
  const about = (packet: Uint8Array, type: number): Uint8Array => {
    const v6 = (packet[0] ?? 0) >> 4 === 6;
    const dst = v6 ? CLIENT.ip6 : CLIENT.ip4;
    const src = v6 ? router.ip6 : router.ip4;
    const message = buildIcmp({ type, code: 0, rest: 0 }, packet, v6 ? { src, dst } : undefined);
    const ip = v6
      ? buildIpv6({ src, dst, nextHeader: 58 }, message)
      : buildIpv4({ src, dst, protocol: 1 }, message);
    return buildEthernet({ dst: macOf('outside'), src: SERVER.mac, etherType: v6 ? 0x86dd : 0x0800 }, ip);
  };

  it.each([
    ['unreachable', quoted, 3],
    ['time exceeded', quoted, 11],
    ['parameter problem', quoted, 12],
    ['IPv6 unreachable', quoted6, 1],
    ['IPv6 too big', quoted6, 2],
    ['IPv6 time exceeded', quoted6, 3],
  ])('%s goes the way of the flow that it quotes, against it', (_name, packet, type) => {
    const v6 = (packet[0] ?? 0) >> 4 === 6;
    const ends = v6 ? { src: CLIENT.ip6, dst: SERVER.ip6 } : {};
    putFlow(rig, { ...ends, proto: 17, sport: 5000, dport: 53, slot: 40, path: 3, chain: 2 });
    const before = rig.count('flow_counters', 40, 1);
    const sent = sendOne(rig, 'outside', about(packet, type));
    expect(sent.end).toBe('forwarded');
    const outer = parseFrame(sent.data);
    expect(outer.ok && outer.value.ipv4?.dst).toBe(NODES[2].remote);
    expect(rig.count('flow_counters', 40, 1) - before).toBe(1n);
    const returned = fromRemote(NODES[2], sent.data.subarray(50));
    const second = parseFrame(sendOne(rig, 'underlay', returned).data);
    expect(second.ok && second.value.ipv4?.dst).toBe(NODES[1].remote);
  });

  it('about an echo finds it by its identifier', () => {
    const echo = buildPacket({
      src: CLIENT.ip4,
      dst: SERVER.ip4,
      transport: { kind: 'echo', identifier: 77 },
    });
    putFlow(rig, { proto: 1, sport: 77, dport: 77 });
    expect(end('outside', about(echo, 3))).toBe('forwarded');
  });

  it('about an unknown flow is a flow of its own, without ports', () => {
    const frame = about(
      buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: { ...udp, srcPort: 7777 } }),
      3,
    );
    rig.events();
    expect(end('outside', frame)).toBe('punted');
    expect(rig.events()[0]?.event.key).toMatchObject({ proto: 1, aport: 0, bport: 0 });
    putFlow(rig, {
      src: router.ip4,
      dst: CLIENT.ip4,
      proto: 1,
      sport: 0,
      dport: 0,
      fwdPort: PORT.outside,
      action: abi.FlowAction.FLOW_ALLOW,
    });
    expect(end('outside', frame)).toBe('forwarded');
  });
});
