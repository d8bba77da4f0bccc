// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, type FrameFields, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BRANCH_END, CHAIN, fromRemote, NODES, type NodeNumber, outerFrame, PATH, PORT } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { ENTROPY, putFlow, readFlow } from './flow-records.js';
import { BRANCH, CLIENT, type DeviceName, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
publishAll(rig);
let routeGen = 1;
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const payload = new TextEncoder().encode('a payload that nobody may change');
const FAMILIES = [
  ['IPv4', 'ip4'],
  ['IPv6', 'ip6'],
] as const;
type Ends = Pick<FrameFields, 'src' | 'dst'> & Partial<FrameFields>;

function request(ends: Ends): Uint8Array {
  const transport = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16, seq: 7 } as const;
  return buildPacket({ transport, payload, ...ends });
}

function reply(ends: Ends): Uint8Array {
  const transport = { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags: 16, seq: 9 } as const;
  return buildPacket({ transport, payload, ...ends, src: ends.dst, dst: ends.src });
}

function frame(packet: Uint8Array, dst: string, src: string): Uint8Array {
  return buildEthernet({ dst, src, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 }, packet);
}

function innerOf(node: NodeNumber, packet: Uint8Array): Uint8Array {
  return frame(packet, NODES[node].innerDst, NODES[node].innerSrc);
}

function forwarded(device: DeviceName, bytes: Uint8Array): string {
  const fate = sendOne(rig, device, bytes);
  expect(fate.end).toBe('forwarded');
  return toHex(fate.data);
}

const toUs = (packet: Uint8Array): Uint8Array => frame(packet, macOf('inside'), CLIENT.mac);
const toUplink = (packet: Uint8Array): Uint8Array => frame(packet, macOf('outside'), SERVER.mac);
const toServer = (packet: Uint8Array): string => toHex(frame(packet, SERVER.mac, macOf('outside')));
const toClient = (packet: Uint8Array): string => toHex(frame(packet, CLIENT.mac, macOf('inside')));

describe.each(FAMILIES)('a flow of %s', (_name, family) => {
  const there: Ends = { src: CLIENT[family], dst: SERVER[family] };

  it('goes to its node as it is, TTL included, behind the header of the hop row', () => {
    putFlow(rig, there);
    const sent = forwarded('inside', toUs(request(there)));
    expect(sent).toBe(toHex(outerFrame(NODES[1], innerOf(1, request(there)), ENTROPY)));
  });

  it('leaves when its node has returned it, the TTL one less, nothing else changed', () => {
    putFlow(rig, there);
    const returned = fromRemote(NODES[1], innerOf(1, request({ ...there, ttl: 63 })));
    expect(forwarded('underlay', returned)).toBe(toServer(request({ ...there, ttl: 62 })));
  });

  it('brings replies through the same node and to the client', () => {
    putFlow(rig, there);
    const sent = forwarded('outside', toUplink(reply(there)));
    expect(sent).toBe(toHex(outerFrame(NODES[1], innerOf(1, reply(there)), ENTROPY)));
    const returned = fromRemote(NODES[1], innerOf(1, reply(there)));
    expect(forwarded('underlay', returned)).toBe(toClient(reply({ ...there, ttl: 63 })));
  });

  it('passes two hops in order, and in reverse order on its way back', () => {
    putFlow(rig, { ...there, path: PATH.pair, chain: CHAIN.pair });
    const to = (node: NodeNumber, packet: Uint8Array): string =>
      toHex(outerFrame(NODES[node], innerOf(node, packet), ENTROPY));
    const from = (node: NodeNumber, packet: Uint8Array): Uint8Array =>
      fromRemote(NODES[node], innerOf(node, packet));
    expect(forwarded('inside', toUs(request(there)))).toBe(to(1, request(there)));
    expect(forwarded('underlay', from(1, request(there)))).toBe(to(2, request(there)));
    expect(forwarded('underlay', from(2, request(there)))).toBe(toServer(request({ ...there, ttl: 63 })));
    expect(forwarded('outside', toUplink(reply(there)))).toBe(to(2, reply(there)));
    expect(forwarded('underlay', from(2, reply(there)))).toBe(to(1, reply(there)));
    expect(forwarded('underlay', from(1, reply(there)))).toBe(toClient(reply({ ...there, ttl: 63 })));
  });

  it('reaches a node over an IPv6 underlay and comes back from it', () => {
    putFlow(rig, { ...there, path: PATH.six, chain: CHAIN.six });
    const sent = forwarded('inside', toUs(request(there)));
    expect(sent).toBe(toHex(outerFrame(NODES[3], innerOf(3, request(there)), ENTROPY)));
    const returned = fromRemote(NODES[3], innerOf(3, request(there)));
    expect(forwarded('underlay', returned)).toBe(toServer(request({ ...there, ttl: 63 })));
  });

  it('goes straight when it is allowed', () => {
    putFlow(rig, { ...there, action: abi.FlowAction.FLOW_ALLOW });
    expect(forwarded('inside', toUs(request(there)))).toBe(toServer(request({ ...there, ttl: 63 })));
    expect(forwarded('outside', toUplink(reply(there)))).toBe(toClient(reply({ ...there, ttl: 63 })));
  });

  it('passes no node any more when a node has said so, and what nodes still have of it leaves as well', () => {
    const programmed = {
      ...there,
      flags: abi.FlowWordFlag.WORD_FLAG_PROGRAMMED,
      path: PATH.pair,
      chain: CHAIN.pair,
    };
    putFlow(rig, { ...programmed, action: abi.FlowAction.FLOW_ALLOW });
    const skipped = rig.stat('STAT_FP_SKIPPED');
    expect(forwarded('inside', toUs(request(there)))).toBe(toServer(request({ ...there, ttl: 63 })));
    expect(forwarded('outside', toUplink(reply(there)))).toBe(toClient(reply({ ...there, ttl: 63 })));
    expect(rig.stat('STAT_FP_SKIPPED') - skipped).toBe(2n);
    const returned = fromRemote(NODES[1], innerOf(1, request(there))); // was at the first of two when the word changed
    expect(forwarded('underlay', returned)).toBe(toServer(request({ ...there, ttl: 63 })));
    const stranger = fromRemote(NODES[3], innerOf(3, request(there)));
    expect(sendOne(rig, 'underlay', stranger).end).toBe('DROP_STRICT_RETURN');
  });

  it('is dropped on all its ways when a node has said so, with a reason of its own', () => {
    const programmed = {
      ...there,
      flags: abi.FlowWordFlag.WORD_FLAG_PROGRAMMED,
      path: PATH.one,
      chain: CHAIN.two,
    };
    putFlow(rig, { ...programmed, action: abi.FlowAction.FLOW_DROP });
    for (let round = 0; round < 2; round++) {
      expect(sendOne(rig, 'inside', toUs(request(there))).end).toBe('DROP_FP_DROP');
      expect(sendOne(rig, 'outside', toUplink(reply(there))).end).toBe('DROP_FP_DROP');
      const returned = fromRemote(NODES[1], innerOf(1, request(there)));
      expect(sendOne(rig, 'underlay', returned).end).toBe('DROP_FP_DROP');
    }
  });

  it('leaves through a VTI when the route says so, and comes in through it', () => {
    const ends: Ends = { src: CLIENT[family], dst: BRANCH[family] };
    putFlow(rig, { ...ends, action: abi.FlowAction.FLOW_ALLOW });
    const inner = frame(request({ ...ends, ttl: 63 }), BRANCH.mac, BRANCH_END.innerSrc);
    expect(forwarded('inside', toUs(request(ends)))).toBe(toHex(outerFrame(BRANCH_END, inner, ENTROPY)));
    const back = fromRemote(BRANCH_END, frame(reply(ends), BRANCH_END.innerSrc, BRANCH_END.innerDst));
    expect(forwarded('underlay', back)).toBe(toClient(reply({ ...ends, ttl: 63 })));
  });

  it('asks the routing table once per direction while no route changes', () => {
    const key = putFlow(rig, { ...there, action: abi.FlowAction.FLOW_ALLOW });
    const asked = rig.stat('STAT_FIB_LOOKUP');
    for (let i = 0; i < 3; i++) forwarded('inside', toUs(request(there)));
    for (let i = 0; i < 3; i++) forwarded('outside', toUplink(reply(there)));
    expect(rig.stat('STAT_FIB_LOOKUP') - asked).toBe(2n);
    expect(readFlow(rig, key).out.map((hop) => hop.ifindex)).toEqual([
      rig.ifindex.outside,
      rig.ifindex.inside,
    ]);
    rig.control({ routeGen: ++routeGen });
    forwarded('inside', toUs(request(there)));
    expect(rig.stat('STAT_FIB_LOOKUP') - asked).toBe(3n);
    // It stays there: generations only grow, and rows in front of the table go by their sum.
  });

  it('carries congestion marks out and in, and keeps the class of service to itself', () => {
    putFlow(rig, there);
    const ect = 0xb8 | 2;
    const marked = { ipv4: { tos: ect }, ipv6: { trafficClass: ect } };
    const sent = forwarded('inside', toUs(request({ ...there, ...marked })));
    expect(sent).toBe(toHex(outerFrame(NODES[1], innerOf(1, request({ ...there, ...marked })), ENTROPY, 2)));
    const returned = fromRemote(NODES[1], innerOf(1, request({ ...there, ...marked })), 3);
    const congested = { ipv4: { tos: 0xb8 | 3 }, ipv6: { trafficClass: 0xb8 | 3 }, ttl: 63 };
    expect(forwarded('underlay', returned)).toBe(toServer(request({ ...there, ...congested })));
    expect(sendOne(rig, 'underlay', fromRemote(NODES[1], innerOf(1, request(there)), 3)).end).toBe(
      'DROP_TUNNEL_HEADER',
    );
  });
});

describe('IPv4 options and IPv6 extension headers', () => {
  it('do not hide the flow', () => {
    putFlow(rig);
    const ends = { src: CLIENT.ip4, dst: SERVER.ip4 };
    const options = request({ ...ends, ipv4: { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) } });
    expect(forwarded('inside', toUs(options))).toBe(
      toHex(outerFrame(NODES[1], innerOf(1, options), ENTROPY)),
    );
  });
});

describe('the counters of a flow', () => {
  const there: Ends = { src: CLIENT.ip4, dst: SERVER.ip4 };
  const counters = (): bigint[] => [0, 1, 2, 3].map((index) => rig.count('flow_counters', 17, index));
  beforeEach(() => putFlow(rig, { slot: 17, rule: 23 }));

  it('see a packet of either direction once, however many crossings it makes', () => {
    const bytes = BigInt(request(there).length);
    const [before, rule, node] = [
      counters(),
      rig.count('rule_counters', 23, 0),
      [0, 1, 2, 3].map((i) => rig.count('node_counters', 1, i)),
    ];
    forwarded('inside', toUs(request(there)));
    forwarded('underlay', fromRemote(NODES[1], innerOf(1, request(there))));
    forwarded('outside', toUplink(reply(there)));
    forwarded('underlay', fromRemote(NODES[1], innerOf(1, reply(there))));
    forwarded('outside', toUplink(reply(there)));
    expect(counters().map((value, index) => value - (before[index] ?? 0n))).toEqual([
      1n,
      2n,
      bytes,
      2n * bytes,
    ]);
    expect(rig.count('rule_counters', 23, 0) - rule).toBe(3n);
    const now = [0, 1, 2, 3].map((index) => rig.count('node_counters', 1, index) - (node[index] ?? 0n));
    expect(now).toEqual([3n, 3n * bytes, 2n, 2n * bytes]);
    expect(rig.count('port_counters', PORT.inside, 6)).toBe(0n);
  });

  it('remember SYN, FIN of each side, RST and that there was a reply', () => {
    const seen = (): number => {
      const stored =
        rig.map('flow_counters').lookup(new Uint8Array(Uint32Array.of(18).buffer)) ?? new Uint8Array(0);
      let bits = 0;
      for (let at = 0; at < stored.length; at += abi.flowCounters.size)
        bits |= abi.flowCounters.decode(stored, at).seen;
      return bits;
    };
    putFlow(rig, { slot: 18 });
    const { FlowSeen: bit } = abi;
    const tcp = (flags: number) => ({ kind: 'tcp', srcPort: 40_000, dstPort: 443, flags }) as const;
    const back = (flags: number) => ({ kind: 'tcp', srcPort: 443, dstPort: 40_000, flags }) as const;
    forwarded('inside', toUs(request({ ...there, transport: tcp(2) })));
    expect(seen()).toBe(bit.SEEN_SYN);
    forwarded('outside', toUplink(reply({ ...there, transport: back(0x11) })));
    expect(seen()).toBe(bit.SEEN_SYN | bit.SEEN_REPLY | bit.SEEN_FIN_REV);
    forwarded('inside', toUs(request({ ...there, transport: tcp(0x11) })));
    forwarded('inside', toUs(request({ ...there, transport: tcp(4) })));
    expect(seen()).toBe(
      bit.SEEN_SYN | bit.SEEN_REPLY | bit.SEEN_FIN_REV | bit.SEEN_FIN_FWD | bit.SEEN_RST_FWD,
    );
  });
});
