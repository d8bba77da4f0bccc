// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildIpv4,
  buildIpv6,
  buildIpv6Extension,
  buildIpv6Fragment,
  buildPacket,
  buildUdp,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromRemote, hopValue, MTU, NODES, OWN, PORT, UNDERLAY, VRF } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER, UNREACHABLE } from './network.js';
import { openRig, u32 } from './rig.js';
import { publishAll, putChain, putPath, tunnelKey, tunnelValue } from './world.js';

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

  it('DROP_FRAGMENT: outer fragments, IPv4 and IPv6', () => {
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
    expect(end('inside', clientFrame({ payload: new Uint8Array(1461) }))).toBe('punted');
    for (const key of [...rig.map('sources').keys()]) rig.map('sources').delete(key);
    rig.control({ puntBurst: 0 });
    expect(end('inside', clientFrame({ payload: new Uint8Array(1461) }))).toBe('DROP_TOO_BIG');
  });

  it('DROP_TOO_BIG and DROP_HOP_NOT_READY on the way to a node', () => {
    putFlow(rig);
    expect(end('inside', clientFrame({ payload: new Uint8Array(MTU - 40) }))).toBe('forwarded');
    for (const key of [...rig.map('sources').keys()]) rig.map('sources').delete(key);
    rig.control({ puntBurst: 0 });
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
