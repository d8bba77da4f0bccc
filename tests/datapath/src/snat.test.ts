// SPDX-License-Identifier: Apache-2.0
// Source NAT where packets leave by a port that has it, and the way back: each frame is held against one that was built with the translated end
// points, so that every checksum in it is right or the test fails.
import { abi } from '@detour/contracts';
import { normaliseTuple } from '@detour/core';
import {
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildPacket,
  buildUdp,
  type FrameFields,
  fragmentIpv4,
  ipToKeyBytes,
  macToBytes,
  type Transport,
  toHex,
} from '@detour/wire';
import fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromRemote, NODES, outerFrame, PORT, VRF } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { CLIENT, type DeviceName, macOf, SERVER, TABLE } from './network.js';
import { openRig, u32 } from './rig.js';
import { injected, ownKey, publishAll } from './world.js';

const SNAT = '198.51.100.1';
const ROUTER = '198.51.100.9';
const { EVENT_PUNT_SNAT, EVENT_FRAGMENT, EVENT_FRAGMENT_FIRST } = abi.EventType;

const rig = openRig();
const clear = (name: string): void => {
  for (const key of [...rig.map(name).keys()]) rig.map(name).delete(key);
};

/** The uplink has SNAT: its port's row, its way out, and the address. */
function putSnat(address = SNAT, as: number = abi.OwnFlag.OWN_SNAT): void {
  const row = abi.port.encode({
    ...{ number: PORT.outside, vrf: VRF, table: rig.tableRow(TABLE), kind: abi.PortKind.PORT_UPLINK },
    ...{ flags: abi.PortFlag.PORT_CLASSIFY | abi.PortFlag.PORT_SNAT, hop: 0, vtiIfindex: 0, node: 0 },
    mac: macToBytes(macOf('outside')),
  });
  rig.put('ports', abi.portKey.encode({ ifindex: rig.ifindex.outside, vlan: 0, inner: 0, bank: 0 }), row);
  rig.put('port_numbers', PORT.outside, row);
  const egress = abi.egressKey.encode({ ifindex: rig.ifindex.outside, bank: 0 });
  rig.put('egress', egress, u32(abi.EgressFlag.EGRESS_SNAT | PORT.outside));
  rig.put('own', ownKey(address, VRF, 0), u32(as));
}

beforeEach(() => {
  for (const name of ['snat_bindings', 'snat_inners', 'datagrams', 'sources']) clear(name);
  publishAll(rig);
  putSnat();
  clearFlows(rig);
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

interface Bound {
  readonly proto: number;
  readonly sport: number;
  readonly dport: number;
  readonly port: number; // outside
  readonly outPort?: number;
}

/** The binding of CLIENT's flow to SERVER, as tunnel-gw writes it. */
function bind({ proto, sport, dport, port, outPort = PORT.outside }: Bound): Uint8Array {
  const [src, dst] = [ipToKeyBytes(CLIENT.ip4), ipToKeyBytes(SERVER.ip4)];
  const { key, norm } = normaliseTuple({ vrf: VRF, proto, src, dst, sport, dport });
  const addr = new DataView(ipToKeyBytes(SNAT).buffer).getUint32(12);
  const bytes = abi.flowKey.encode(key);
  const fields = { addr, port, outPort, innerIsB: norm, scope: 0, lastNs: 0n };
  rig.put('snat_bindings', bytes, abi.snatBinding.encode(fields));
  const remote = new DataView(ipToKeyBytes(SERVER.ip4).buffer).getUint32(12);
  const inner = new DataView(ipToKeyBytes(CLIENT.ip4).buffer).getUint32(12);
  const remotePort = proto === 1 ? 0 : dport;
  rig.put(
    'snat_inners',
    abi.snatKey.encode({ addr, remote, port, remotePort, vrf: VRF, proto }),
    abi.snatInner.encode({ addr: inner, port: sport }),
  );
  return bytes;
}

const ether = (packet: Uint8Array, dst: string, src: string): Uint8Array =>
  buildEthernet({ dst, src, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 }, packet);
const inside = (packet: Uint8Array): Uint8Array => ether(packet, macOf('inside'), CLIENT.mac);
const outside = (packet: Uint8Array): Uint8Array => ether(packet, macOf('outside'), SERVER.mac);
const left = (packet: Uint8Array): Uint8Array => ether(packet, SERVER.mac, macOf('outside'));
const arrived = (packet: Uint8Array): Uint8Array => ether(packet, CLIENT.mac, macOf('inside'));
const toNode1 = (packet: Uint8Array): Uint8Array =>
  outerFrame(NODES[1], ether(packet, NODES[1].innerDst, NODES[1].innerSrc), ENTROPY);
const fromNode1 = (packet: Uint8Array): Uint8Array =>
  fromRemote(NODES[1], ether(packet, NODES[1].innerSrc, NODES[1].innerDst));
const sent = (device: DeviceName, frame: Uint8Array): string => {
  const fate = sendOne(rig, device, frame);
  return fate.end === 'forwarded' ? toHex(fate.data) : fate.end;
};
const end = (device: DeviceName, frame: Uint8Array): string => sendOne(rig, device, frame).end;

/** One protocol each: the transport header with the end point that is inside, or the one outside. */
const PROTOCOLS: readonly {
  name: string;
  bound: Bound;
  out: (port: number) => Transport;
  back: (port: number) => Transport;
}[] = [
  {
    name: 'TCP',
    bound: { proto: 6, sport: 40_000, dport: 443, port: 50_001 },
    out: (port) => ({ kind: 'tcp', srcPort: port, dstPort: 443 }),
    back: (port) => ({ kind: 'tcp', srcPort: 443, dstPort: port }),
  },
  {
    name: 'UDP',
    bound: { proto: 17, sport: 5000, dport: 53, port: 50_002 },
    out: (port) => ({ kind: 'udp', srcPort: port, dstPort: 53 }),
    back: (port) => ({ kind: 'udp', srcPort: 53, dstPort: port }),
  },
  {
    name: 'ICMP echo',
    bound: { proto: 1, sport: 77, dport: 77, port: 50_003 },
    out: (identifier) => ({ kind: 'echo', identifier }),
    back: (identifier) => ({ kind: 'echo', identifier, reply: true }),
  },
];
const payload = Uint8Array.from({ length: 33 }, (_, i) => i * 7);
const packetOf = (src: string, dst: string, transport: Transport, more: Partial<FrameFields> = {}) =>
  buildPacket({ src, dst, transport, payload, ...more });

describe.each(PROTOCOLS)('a flow of $name that leaves by a port with SNAT', ({ bound, out, back }) => {
  const request = (ttl = 64) => packetOf(CLIENT.ip4, SERVER.ip4, out(bound.sport), { ttl });
  const answer = (ttl = 64) => packetOf(SERVER.ip4, CLIENT.ip4, back(bound.sport), { ttl });
  const requestOutside = (ttl = 64) => packetOf(SNAT, SERVER.ip4, out(bound.port), { ttl });
  const answerOutside = (ttl = 64) => packetOf(SERVER.ip4, SNAT, back(bound.port), { ttl });

  it('has the SNAT address outside alone: its node sees inner end points, both ways', () => {
    putFlow(rig, bound);
    bind(bound);
    for (let round = 0; round < 3; round++) {
      expect(sent('inside', inside(request()))).toBe(toHex(toNode1(request())));
      expect(sent('underlay', fromNode1(request()))).toBe(toHex(left(requestOutside(63))));
      expect(sent('outside', outside(answerOutside()))).toBe(toHex(toNode1(answer())));
      expect(sent('underlay', fromNode1(answer()))).toBe(toHex(arrived(answer(63))));
    }
  });

  it('without a node is translated from the record and from its front row', () => {
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const lookups = rig.stat('STAT_FIB_LOOKUP');
    for (let round = 0; round < 4; round++) {
      expect(sent('inside', inside(request()))).toBe(toHex(left(requestOutside(63))));
      expect(sent('outside', outside(answerOutside()))).toBe(toHex(arrived(answer(63))));
    }
    expect(rig.stat('STAT_FIB_LOOKUP') - lookups).toBe(2n);
  });

  it('without a binding waits for one, where it leaves, as it is; put back it goes on', () => {
    putFlow(rig, bound);
    expect(end('underlay', fromNode1(request(9)))).toBe('punted');
    const [held, ...more] = rig.events();
    expect(more).toEqual([]);
    expect(held?.event).toMatchObject({
      ...{ type: EVENT_PUNT_SNAT, oldPath: PORT.outside, op: abi.InjectOp.INJECT_RETURN, node: 1 },
      key: { proto: bound.proto, vrf: VRF },
    });
    expect(toHex(held?.packet.subarray(14) ?? new Uint8Array())).toBe(toHex(request(9)));
    bind(bound);
    const again = injected(abi.InjectOp.INJECT_RETURN, { node: 1 }, held?.packet ?? new Uint8Array());
    expect(sent('inject', again)).toBe(toHex(left(requestOutside(8))));
  });

  it('bound to another port than it leaves by waits for a new binding', () => {
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind({ ...bound, outPort: PORT.plain });
    expect(end('inside', inside(request()))).toBe('punted');
    expect(rig.events()[0]?.event).toMatchObject({ type: EVENT_PUNT_SNAT, oldPath: PORT.outside });
  });

  it('that began outside leaves as it is', () => {
    putFlow(rig, {
      ...{ src: SERVER.ip4, dst: CLIENT.ip4, sport: bound.dport, dport: bound.sport, proto: bound.proto },
      ...{ action: abi.FlowAction.FLOW_ALLOW, fwdPort: PORT.outside },
    });
    for (let round = 0; round < 3; round++)
      expect(sent('inside', inside(request()))).toBe(toHex(left(request(63))));
    expect(rig.events()).toEqual([]);
  });

  it('answers to a binding that is not there are dropped, or the stack’s where it has the address', () => {
    putFlow(rig, bound);
    expect(end('outside', outside(answerOutside()))).toBe('DROP_SNAT_UNKNOWN');
    putSnat(SNAT, abi.OwnFlag.OWN_SNAT | abi.OwnFlag.OWN_LOCAL);
    expect(end('outside', outside(answerOutside()))).toBe('passed');
    bind(bound);
    expect(sent('outside', outside(answerOutside()))).toBe(toHex(toNode1(answer())));
  });

  it('answers to a binding that another gateway may have are asked about, once', () => {
    const { OWN_SNAT, OWN_SNAT_SHARED, OWN_LOCAL } = abi.OwnFlag;
    putSnat(SNAT, OWN_SNAT | OWN_SNAT_SHARED);
    const answered = outside(answerOutside());
    expect(end('outside', answered)).toBe('punted');
    const [asked, ...more] = rig.events();
    expect(more).toEqual([]);
    expect([asked?.event.type, asked?.event.op, asked?.event.port]).toEqual([
      abi.EventType.EVENT_SNAT_UNKNOWN,
      abi.InjectOp.INJECT_PORT,
      PORT.outside,
    ]);
    expect(toHex(asked?.packet ?? new Uint8Array())).toBe(toHex(answered));
    const back = injected(abi.InjectOp.INJECT_PORT, { port: PORT.outside }, answered);
    expect(end('inject', back)).toBe('DROP_SNAT_UNKNOWN');
    expect(end('inside', inside(answerOutside()))).toBe('DROP_SNAT_UNKNOWN'); // by a port without SNAT
    putFlow(rig, bound);
    bind(bound);
    expect(sent('inject', back)).toBe(toHex(toNode1(answer())));
    for (const name of ['snat_bindings', 'snat_inners']) clear(name);
    rig.control({ puntRate: 1, puntBurst: 1 });
    clear('sources');
    expect([end('outside', answered), end('outside', answered)]).toEqual(['punted', 'DROP_SNAT_UNKNOWN']);
    putSnat(SNAT, OWN_SNAT | OWN_SNAT_SHARED | OWN_LOCAL);
    clear('sources');
    expect(end('outside', answered)).toBe('passed');
  });

  it('whose TTL ends is answered with inner end points, or not at all', () => {
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const out1 = sendOne(rig, 'inside', inside(request(1)));
    expect([out1.end, toHex(out1.data)]).toEqual(['passed', toHex(inside(request(1)))]);
    expect(end('outside', outside(answerOutside(1)))).toBe('DROP_TTL');
    // What is nobody's there is the kernel's, as on every port.
    expect(end('outside', outside(packetOf(SERVER.ip4, CLIENT.ip4, back(9), { ttl: 1 })))).toBe('passed');
  });

  it.each([
    ['time exceeded', 11, 0],
    ['fragmentation needed', 3, 4],
  ])('%s about it from outside: quotes inner end points, through its node', (_what, type, code) => {
    putFlow(rig, bound);
    bind(bound);
    const about = (dst: string, quoted: Uint8Array) =>
      buildIpv4({ src: ROUTER, dst, protocol: 1 }, buildIcmp({ type, code, rest: 1400 }, quoted));
    for (const bytes of [28, 44, undefined]) {
      // 28: no more than RFC 792 asks for, without TCP's checksum.
      const seen = about(SNAT, requestOutside().subarray(0, bytes));
      const wanted = about(CLIENT.ip4, request().subarray(0, bytes));
      expect(sent('outside', outside(seen))).toBe(toHex(toNode1(wanted)));
    }
  });

  it.each([
    ['its inner end', CLIENT.ip4],
    ['a router inside', '10.1.0.77'],
  ])(
    'port unreachable from %s: quotes what the other end has sent, and comes from the SNAT address',
    (_who, src) => {
      putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
      bind(bound);
      const about = (from: string, quoted: Uint8Array) =>
        buildIpv4(
          { src: from, dst: SERVER.ip4, protocol: 1, ttl: 64 },
          buildIcmp({ type: 3, code: 3, rest: 0 }, quoted),
        );
      const got = sendOne(rig, 'inside', inside(about(src, answer(63))));
      const wanted = buildIpv4(
        { src: SNAT, dst: SERVER.ip4, protocol: 1, ttl: 63 },
        buildIcmp({ type: 3, code: 3, rest: 0 }, answerOutside(63)),
      );
      expect([got.end, toHex(got.data)]).toEqual(['forwarded', toHex(left(wanted))]);
    },
  );

  it('the gateway’s own message about an answer quotes the SNAT address, from its own', () => {
    bind(bound);
    const about = (quoted: Uint8Array, ttl: number) =>
      buildIpv4(
        { src: ROUTER, dst: SERVER.ip4, protocol: 1, ttl },
        buildIcmp({ type: 3, code: 4, rest: 1400 }, quoted),
      );
    const frame = injected(abi.InjectOp.INJECT_LEAVE, { port: PORT.inside }, inside(about(answer(), 64)));
    expect(sent('inject', frame)).toBe(toHex(left(about(answerOutside(), 63))));
  });

  it('errors about flows without a binding go as they are', () => {
    putFlow(rig, {
      ...{ src: SERVER.ip4, dst: CLIENT.ip4, sport: bound.dport, dport: bound.sport, proto: bound.proto },
      ...{ action: abi.FlowAction.FLOW_ALLOW, fwdPort: PORT.outside },
    });
    const about = (ttl: number) =>
      buildIpv4(
        { src: CLIENT.ip4, dst: SERVER.ip4, protocol: 1, ttl },
        buildIcmp({ type: 3, code: 3, rest: 0 }, answer()),
      );
    expect(sent('inside', inside(about(64)))).toBe(toHex(left(about(63))));
    expect(
      end(
        'outside',
        outside(
          buildIpv4(
            { src: ROUTER, dst: SNAT, protocol: 1 },
            buildIcmp({ type: 11, code: 0, rest: 0 }, requestOutside()),
          ),
        ),
      ),
    ).toBe('DROP_SNAT_UNKNOWN');
  });
});

describe('checksums behind SNAT', () => {
  it('are right for all end points, ports and contents', () => {
    putFlow(rig, { proto: 17, sport: 5000, dport: 53, action: abi.FlowAction.FLOW_ALLOW });
    putFlow(rig, { proto: 6, sport: 5000, dport: 53, action: abi.FlowAction.FLOW_ALLOW });
    const kinds = fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp');
    fc.assert(
      fc.property(
        kinds,
        fc.integer({ min: 1024, max: 65_535 }),
        fc.uint8Array({ maxLength: 40 }),
        (kind, port, bytes) => {
          bind({ proto: kind === 'udp' ? 17 : 6, sport: 5000, dport: 53, port });
          const frame = (src: string, srcPort: number, ttl: number) =>
            buildPacket({
              src,
              dst: SERVER.ip4,
              ttl,
              transport: { kind, srcPort, dstPort: 53 },
              payload: bytes,
            });
          expect(sent('inside', inside(frame(CLIENT.ip4, 5000, 64)))).toBe(
            toHex(left(frame(SNAT, port, 63))),
          );
        },
      ),
      { numRuns: 500 },
    );
  });

  it('a UDP checksum of 0 stays 0, both ways (RFC 768), and one that comes out as 0 is ffff', () => {
    const bound = { proto: 17, sport: 5000, dport: 53, port: 50_002 };
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const bare = (src: string, dst: string, srcPort: number, dstPort: number, ttl: number) =>
      buildIpv4({ src, dst, protocol: 17, ttl }, buildUdp({ srcPort, dstPort }, payload));
    expect(sent('inside', inside(bare(CLIENT.ip4, SERVER.ip4, 5000, 53, 64)))).toBe(
      toHex(left(bare(SNAT, SERVER.ip4, 50_002, 53, 63))),
    );
    expect(sent('outside', outside(bare(SERVER.ip4, SNAT, 53, 50_002, 64)))).toBe(
      toHex(arrived(bare(SERVER.ip4, CLIENT.ip4, 53, 5000, 63))),
    );
    // The last two bytes are such that the sum over the translated datagram is ffff, its checksum 0.
    const sum = buildUdp({ srcPort: 50_002, dstPort: 53 }, new Uint8Array(2), { src: SNAT, dst: SERVER.ip4 });
    const body = sum.slice(6, 8);
    const full = (src: string, srcPort: number, ttl: number) =>
      buildIpv4(
        { src, dst: SERVER.ip4, protocol: 17, ttl },
        buildUdp({ srcPort, dstPort: 53 }, body, { src, dst: SERVER.ip4 }),
      );
    const out = sendOne(rig, 'inside', inside(full(CLIENT.ip4, 5000, 64)));
    expect(toHex(out.data.subarray(14 + 26, 14 + 28))).toBe('ffff');
  });

  it('one that was wrong stays wrong', () => {
    const bound = { proto: 6, sport: 40_000, dport: 443, port: 50_001 };
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const packet = packetOf(CLIENT.ip4, SERVER.ip4, { kind: 'tcp', srcPort: 40_000, dstPort: 443 });
    const wanted = packetOf(SNAT, SERVER.ip4, { kind: 'tcp', srcPort: 50_001, dstPort: 443 }, { ttl: 63 });
    for (const bytes of [packet, wanted]) bytes[45] = (bytes[45] ?? 0) ^ 1; // a byte of payload
    expect(sent('inside', inside(packet))).toBe(toHex(left(wanted)));
  });
});

describe('fragments behind SNAT', () => {
  const bound = { proto: 17, sport: 5000, dport: 53, port: 50_002 };
  const pieces = (
    src: string,
    dst: string,
    ports: { srcPort: number; dstPort: number },
    ttl: number,
  ): [Uint8Array, Uint8Array, Uint8Array] => {
    const body = buildUdp(
      ports,
      Uint8Array.from({ length: 400 }, (_, i) => i),
      { src, dst },
    );
    const cut = fragmentIpv4(
      buildIpv4({ src, dst, protocol: 17, id: 7, ttl, dontFragment: false }, body),
      180,
    );
    if (!cut.ok) throw new Error(cut.why);
    const [first, second, third] = cut.value;
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three are wanted');
    return [first, second, third];
  };
  const out = (ttl = 64) => pieces(CLIENT.ip4, SERVER.ip4, { srcPort: 5000, dstPort: 53 }, ttl);
  const outTranslated = pieces(SNAT, SERVER.ip4, { srcPort: 50_002, dstPort: 53 }, 63);
  const back = (ttl = 64) => pieces(SERVER.ip4, CLIENT.ip4, { srcPort: 53, dstPort: 5000 }, ttl);
  const backOutside = pieces(SERVER.ip4, SNAT, { srcPort: 53, dstPort: 50_002 }, 64);

  it('all have the SNAT address outside, and the inner one at the node', () => {
    putFlow(rig, bound);
    bind(bound);
    for (const i of [0, 1, 2] as const) {
      expect(sent('inside', inside(out()[i]))).toBe(toHex(toNode1(out()[i])));
      expect(sent('underlay', fromNode1(out()[i]))).toBe(toHex(left(outTranslated[i])));
    }
    for (const i of [0, 1, 2] as const) {
      expect(sent('outside', outside(backOutside[i]))).toBe(toHex(toNode1(back()[i])));
      expect(sent('underlay', fromNode1(back()[i]))).toBe(toHex(arrived(back(63)[i])));
    }
  });

  it.each([
    ['routed here', abi.OwnFlag.OWN_SNAT],
    ['on a device', abi.OwnFlag.OWN_SNAT | abi.OwnFlag.OWN_LOCAL],
  ])('those from outside before their first wait for it, the address being %s', (_where, as) => {
    putSnat(SNAT, as);
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const [first, second] = backOutside;
    expect(end('outside', outside(second))).toBe('punted');
    const [held] = rig.events();
    expect(held?.event).toMatchObject({
      type: EVENT_FRAGMENT,
      op: abi.InjectOp.INJECT_PORT,
      port: PORT.outside,
    });
    expect(sent('outside', outside(first))).toBe(toHex(arrived(back(63)[0])));
    expect(rig.events()[0]?.event).toMatchObject({ type: EVENT_FRAGMENT_FIRST, key: held?.event.key });
    const again = injected(abi.InjectOp.INJECT_PORT, { port: PORT.outside }, held?.packet ?? second);
    expect(sent('inject', again)).toBe(toHex(arrived(back(63)[1])));
  });

  it('whose first never came end as fragments, or are the stack’s', () => {
    const again = injected(abi.InjectOp.INJECT_PORT, { port: PORT.outside }, outside(backOutside[1]));
    expect(end('inject', again)).toBe('DROP_FRAGMENT');
    putSnat(SNAT, abi.OwnFlag.OWN_SNAT | abi.OwnFlag.OWN_LOCAL);
    expect(end('inject', again)).toBe('passed');
  });
});

describe("tunnel-gw's RSTs to the ends of a flow", () => {
  const bound = { proto: 6, sport: 40_000, dport: 443, port: 50_001 };
  const inName = (of: 'client' | 'server', ttl = 64, src: string = CLIENT.ip4, srcPort = 40_000) =>
    of === 'client'
      ? buildPacket({
          ...{ src, dst: SERVER.ip4, ttl },
          transport: { kind: 'tcp', srcPort, dstPort: 443, seq: 5, flags: 4 },
        })
      : buildPacket({
          ...{ src: SERVER.ip4, dst: CLIENT.ip4, ttl },
          transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, seq: 5, flags: 4 },
        });
  const leaves = (packet: Uint8Array): Uint8Array =>
    injected(abi.InjectOp.INJECT_LEAVE, { port: PORT.inside }, ether(packet, CLIENT.mac, CLIENT.mac));

  it('are translated as its packets are: outside it has the SNAT address alone', () => {
    putFlow(rig, bound);
    bind(bound);
    expect(sent('inject', leaves(inName('client')))).toBe(toHex(left(inName('client', 63, SNAT, 50_001))));
    expect(sent('inject', leaves(inName('server')))).toBe(toHex(arrived(inName('server', 63))));
  });

  it('wait for a binding where it has none, so that no inner address is told outside', () => {
    putFlow(rig, bound);
    expect(end('inject', leaves(inName('client')))).toBe('punted');
    expect(rig.events().map(({ event }) => [event.type, event.op])).toEqual([
      [EVENT_PUNT_SNAT, abi.InjectOp.INJECT_LEAVE],
    ]);
  });

  it('leave as they are where it began outside', () => {
    putFlow(rig, { src: SERVER.ip4, dst: CLIENT.ip4, sport: 443, dport: 40_000, fwdPort: PORT.outside });
    expect(sent('inject', leaves(inName('client')))).toBe(toHex(left(inName('client', 63))));
  });
});

describe('a port with SNAT', () => {
  it('leaves IPv6 as it is', () => {
    putFlow(rig, { src: CLIENT.ip6, dst: SERVER.ip6, action: abi.FlowAction.FLOW_ALLOW });
    const packet = (ttl: number) =>
      buildPacket({
        src: CLIENT.ip6,
        dst: SERVER.ip6,
        ttl,
        transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 },
      });
    expect(sent('inside', inside(packet(64)))).toBe(toHex(left(packet(63))));
  });

  it('translates a protocol without ports by its address alone', () => {
    const bound = { proto: 47, sport: 0, dport: 0, port: 0 };
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const gre = (src: string, dst: string, ttl: number) =>
      buildIpv4({ src, dst, protocol: 47, ttl }, payload);
    expect(sent('inside', inside(gre(CLIENT.ip4, SERVER.ip4, 64)))).toBe(
      toHex(left(gre(SNAT, SERVER.ip4, 63))),
    );
    expect(sent('outside', outside(gre(SERVER.ip4, SNAT, 64)))).toBe(
      toHex(arrived(gre(SERVER.ip4, CLIENT.ip4, 63))),
    );
  });

  it.each([
    ['UDP-Lite', 136],
    ['DCCP', 33],
  ])('drops %s, whose checksum covers the address', (_name, proto) => {
    putFlow(rig, { proto, sport: 0, dport: 0, action: abi.FlowAction.FLOW_ALLOW });
    const packet = buildIpv4({ src: CLIENT.ip4, dst: SERVER.ip4, protocol: proto }, payload);
    expect(end('inside', inside(packet))).toBe('DROP_UNSUPPORTED');
  });

  it('takes nobody at his word who sends from the SNAT address, and nobody inside reaches it', () => {
    const transport: Transport = { kind: 'tcp', srcPort: 40_000, dstPort: 443 };
    expect(end('outside', outside(packetOf(SNAT, CLIENT.ip4, transport)))).toBe('DROP_SPOOF');
    expect(end('inside', inside(packetOf(CLIENT.ip4, SNAT, transport)))).toBe('DROP_SNAT_UNKNOWN');
  });

  it('asks for bindings within the bucket of each source', () => {
    rig.control({ puntRate: 1, puntBurst: 2 });
    putFlow(rig, { action: abi.FlowAction.FLOW_ALLOW });
    const frame = inside(packetOf(CLIENT.ip4, SERVER.ip4, { kind: 'tcp', srcPort: 40_000, dstPort: 443 }));
    expect([0, 1, 2].map(() => end('inside', frame))).toEqual(['punted', 'punted', 'DROP_PUNT_FULL']);
  });

  it('keeps when a binding was last used, to a second', () => {
    const bound = { proto: 6, sport: 40_000, dport: 443, port: 50_001 };
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    const key = bind(bound);
    const frame = inside(packetOf(CLIENT.ip4, SERVER.ip4, { kind: 'tcp', srcPort: 40_000, dstPort: 443 }));
    expect(end('inside', frame)).toBe('forwarded');
    const { lastNs } = abi.snatBinding.decode(rig.map('snat_bindings').lookup(key) ?? new Uint8Array());
    const now = process.hrtime.bigint();
    expect(now - lastNs).toBeLessThan(1_000_000_000n);
  });

  it('any bytes by any way end once, counted', () => {
    const bound = { proto: 17, sport: 5000, dport: 53, port: 50_002 };
    putFlow(rig, { ...bound, action: abi.FlowAction.FLOW_ALLOW });
    bind(bound);
    const quoted = packetOf(SNAT, SERVER.ip4, { kind: 'udp', srcPort: 50_002, dstPort: 53 });
    const protocol = fc.constantFrom(1, 6, 17, 47);
    fc.assert(
      fc.property(
        protocol,
        fc.uint8Array({ maxLength: 24 }),
        fc.nat(quoted.length),
        fc.boolean(),
        (proto, bytes, cut, error) => {
          const body = error ? buildIcmp({ type: 11, code: 0, rest: 0 }, quoted.subarray(0, cut)) : bytes;
          const fields = { protocol: error ? 1 : proto, dontFragment: false };
          sendOne(rig, 'outside', outside(buildIpv4({ src: SERVER.ip4, dst: SNAT, ...fields }, body)));
          sendOne(rig, 'inside', inside(buildIpv4({ src: CLIENT.ip4, dst: SERVER.ip4, ...fields }, body)));
        },
      ),
      { numRuns: 500 },
    );
  });
});
