// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildIpv6Extension,
  buildIpv6Fragment,
  buildPacket,
  buildUdp,
  concatBytes,
  fragmentIpv4,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, OWN, outerFrame, PATH, PORT } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, tunnelKey, tunnelValue } from './world.js';

const rig = openRig();
const clear = (name: string): void => {
  for (const key of [...rig.map(name).keys()]) rig.map(name).delete(key);
};
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  clear('datagrams');
  clear('sources');
  rig.events();
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { EVENT_FRAGMENT, EVENT_FRAGMENT_FIRST, EVENT_PUNT_MISS } = abi.EventType;
type Device = Parameters<typeof sendOne>[1];
const end = (device: Device, frame: Uint8Array): string => sendOne(rig, device, frame).end;
const FAMILIES = [
  ['IPv4', { src: CLIENT.ip4, dst: SERVER.ip4 }],
  ['IPv6', { src: CLIENT.ip6, dst: SERVER.ip6 }],
] as const;
type Ends = { readonly src: string; readonly dst: string };
const FLOW = { proto: 17, sport: 5000, dport: 53 } as const;
const isV6 = ({ src }: Ends): boolean => src.includes(':');

/** A UDP datagram in three fragments. */
function datagram(ends: Ends, id = 7, ports = { srcPort: 5000, dstPort: 53 }): Uint8Array[] {
  const body = buildUdp(
    ports,
    Uint8Array.from({ length: 400 }, (_, i) => i),
    ends,
  );
  if (!isV6(ends)) {
    const cut = fragmentIpv4(buildIpv4({ ...ends, protocol: 17, id, dontFragment: false }, body), 20 + 160);
    if (!cut.ok) throw new Error(cut.why);
    return cut.value;
  }
  return [0, 160, 320].map((at) => {
    const piece = body.subarray(at, at + 160);
    const fields = { nextHeader: 17, offset: at / 8, more: at < 320, id };
    return buildIpv6({ ...ends, nextHeader: 44 }, buildIpv6Fragment(fields, piece));
  });
}

const ether = (packet: Uint8Array, dst: string = macOf('inside'), src: string = CLIENT.mac): Uint8Array =>
  buildEthernet({ dst, src, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 }, packet);
const inner = (node: 1 | 2, packet: Uint8Array): Uint8Array =>
  ether(packet, NODES[node].innerDst, NODES[node].innerSrc);
const back = (node: 1 | 2, packet: Uint8Array): Uint8Array =>
  fromRemote(NODES[node], ether(packet, NODES[node].innerSrc, NODES[node].innerDst));
function put(op: number, fields: { port?: number; node?: number }, frame: Uint8Array): Uint8Array {
  const header = abi.injectHdr.encode({
    ...{ dst: new Uint8Array(6), src: new Uint8Array(6), ethertype: abi.InjectEthertype.INJECT_ETHERTYPE },
    ...{ op, reason: 0, port: fields.port ?? 0, node: fields.node ?? 0 },
  });
  return concatBytes(header, frame);
}

describe.each(FAMILIES)('fragments of %s', (_family, ends) => {
  it('later ones take the path of their first, to every node and out, both directions', () => {
    putFlow(rig, { ...ends, ...FLOW, path: PATH.pair, chain: CHAIN.pair });
    const followed = riseOf(rig, 'STAT_FRAGMENT_FOLLOWED', () => {
      for (const packet of datagram(ends)) {
        const to = sendOne(rig, 'inside', ether(packet));
        expect([to.end, toHex(to.data)]).toEqual([
          'forwarded',
          toHex(outerFrame(NODES[1], inner(1, packet), ENTROPY)),
        ]);
        const on = sendOne(rig, 'underlay', back(1, packet));
        expect([on.end, toHex(on.data)]).toEqual([
          'forwarded',
          toHex(outerFrame(NODES[2], inner(2, packet), ENTROPY)),
        ]);
        const out = sendOne(rig, 'underlay', back(2, packet));
        expect([out.end, toHex(out.data.subarray(0, 6))]).toEqual([
          'forwarded',
          SERVER.mac.replaceAll(':', ''),
        ]);
      }
    });
    expect(followed).toBe(6n);
    const reply = datagram({ src: ends.dst, dst: ends.src }, 8, { srcPort: 53, dstPort: 5000 });
    for (const packet of reply) {
      const to = sendOne(rig, 'outside', ether(packet, macOf('outside'), SERVER.mac));
      expect(toHex(to.data)).toBe(toHex(outerFrame(NODES[2], inner(2, packet), ENTROPY)));
    }
    expect(rig.events()).toEqual([]);
  });

  it('those before their first wait for it, are told of, and follow it when they are put back', () => {
    putFlow(rig, { ...ends, ...FLOW });
    const [first, second, third] = datagram(ends) as [Uint8Array, Uint8Array, Uint8Array];
    const held = riseOf(rig, 'STAT_FRAGMENT_HELD', () => {
      expect([third, second].map((one) => end('inside', ether(one)))).toEqual(['punted', 'punted']);
    });
    expect(held).toBe(2n);
    const waiting = rig.events();
    expect(waiting.map(({ event }) => [event.type, event.oldPath, event.op, event.port])).toEqual(
      [0, 1].map(() => [EVENT_FRAGMENT, 7, abi.InjectOp.INJECT_PORT, PORT.inside]),
    );
    expect(waiting.map(({ packet }) => toHex(packet))).toEqual(
      [third, second].map((one) => toHex(ether(one))),
    );
    expect(end('inside', ether(first))).toBe('forwarded');
    const [told, ...more] = rig.events();
    expect(more).toEqual([]);
    expect(told?.event).toMatchObject({
      ...{ type: EVENT_FRAGMENT_FIRST, oldPath: 7 },
      key: waiting[0]?.event.key,
    });
    for (const { packet } of waiting) {
      const fate = sendOne(rig, 'inject', put(abi.InjectOp.INJECT_PORT, { port: PORT.inside }, packet));
      expect([fate.end, toHex(fate.data)]).toEqual([
        'forwarded',
        toHex(outerFrame(NODES[1], inner(1, packet.subarray(14)), ENTROPY)),
      ]);
    }
  });

  it('whose first never comes are dropped when they have waited', () => {
    putFlow(rig, { ...ends, ...FLOW });
    const [, second] = datagram(ends) as [Uint8Array, Uint8Array];
    expect(end('inside', ether(second))).toBe('punted');
    const inject = put(abi.InjectOp.INJECT_PORT, { port: PORT.inside }, ether(second));
    expect(end('inject', inject)).toBe('DROP_FRAGMENT');
  });

  it('of an undecided flow wait for its decision behind one another, whole', () => {
    const packets = datagram(ends);
    expect(packets.map((one) => end('inside', ether(one)))).toEqual(['punted', 'punted', 'punted']);
    expect(rig.events().map(({ event }) => [event.type, event.first, event.key.proto])).toEqual([
      [EVENT_PUNT_MISS, 1, 17],
      [EVENT_PUNT_MISS, 0, 17],
      [EVENT_PUNT_MISS, 0, 17],
    ]);
  });

  it('of one datagram do not follow the first of another', () => {
    putFlow(rig, { ...ends, ...FLOW });
    const [first] = datagram(ends, 7) as [Uint8Array];
    const [, other] = datagram(ends, 8) as [Uint8Array, Uint8Array];
    const [, elsewhere] = datagram(
      { ...ends, src: isV6(ends) ? '2001:db8:1::6' : '10.1.0.6' },
      7,
    ) as Uint8Array[];
    expect(end('inside', ether(first))).toBe('forwarded');
    expect(end('inside', ether(other))).toBe('punted');
    expect(end('inside', ether(elsewhere as Uint8Array))).toBe('punted');
    expect(rig.events().map(({ event }) => event.type)).toEqual([EVENT_FRAGMENT, EVENT_FRAGMENT]);
  });

  it('an identification that comes again names its own first, an old one none', () => {
    putFlow(rig, { ...ends, ...FLOW });
    putFlow(rig, { ...ends, ...FLOW, sport: 5001, action: abi.FlowAction.FLOW_DROP });
    const [first, second] = datagram(ends) as [Uint8Array, Uint8Array];
    const [again] = datagram(ends, 7, { srcPort: 5001, dstPort: 53 }) as [Uint8Array];
    expect([first, second].map((one) => end('inside', ether(one)))).toEqual(['forwarded', 'forwarded']);
    expect([again, second].map((one) => end('inside', ether(one)))).toEqual(['DROP_RULE', 'DROP_RULE']);
    for (const key of [...rig.map('datagrams').keys()]) {
      const row = abi.datagram.decode(rig.map('datagrams').lookup(key) ?? new Uint8Array(0));
      rig.put('datagrams', key, abi.datagram.encode({ ...row, atNs: row.atNs - 5_000_000_001n }));
    }
    expect(end('inside', ether(second))).toBe('punted');
  });

  it('out of a node wait as what the node returned', () => {
    putFlow(rig, { ...ends, ...FLOW });
    const [first, second] = datagram(ends, 9) as [Uint8Array, Uint8Array];
    expect(end('underlay', back(1, second))).toBe('punted');
    const [waiting] = rig.events();
    expect(waiting?.event).toMatchObject({ type: EVENT_FRAGMENT, op: abi.InjectOp.INJECT_RETURN, node: 1 });
    expect(end('underlay', back(1, first))).toBe('forwarded');
    expect(rig.events().map(({ event }) => event.type)).toEqual([EVENT_FRAGMENT_FIRST]);
    expect(end('inject', put(abi.InjectOp.INJECT_RETURN, { node: 1 }, waiting?.packet ?? first))).toBe(
      'forwarded',
    );
    expect(end('underlay', back(2, first))).toBe('DROP_STRICT_RETURN');
    expect(end('underlay', back(2, second))).toBe('DROP_STRICT_RETURN');
  });

  it('to the gateway itself are its own stack’s, in any order', () => {
    const own = { ...ends, dst: isV6(ends) ? OWN.ip6 : OWN.ip4 };
    for (const packet of datagram(own).reverse()) expect(end('inside', ether(packet))).toBe('passed');
  });

  it('from sources that nobody may have are not held', () => {
    const [, second] = datagram({ ...ends, src: isV6(ends) ? OWN.ip6 : OWN.ip4 }) as [Uint8Array, Uint8Array];
    expect(end('inside', ether(second))).toBe('DROP_SPOOF');
  });

  it('are held within the bucket of their source', () => {
    rig.control({ puntRate: 1, puntBurst: 2 });
    const [, second, third] = datagram(ends) as [Uint8Array, Uint8Array, Uint8Array];
    const fates = [second, third, second].map((one) => end('inside', ether(one)));
    expect(fates).toEqual(['punted', 'punted', 'DROP_PUNT_FULL']);
    const [whole] = datagram(ends, 9) as [Uint8Array];
    expect(end('inside', ether(whole))).toBe('punted'); // a decision has a bucket of its own
  });
});

describe('a flood of datagrams in pieces', () => {
  it('pushes out datagrams alone, and the table stays within its bound', () => {
    rig.control({ puntRate: 4_000_000, puntBurst: 4_000_000 });
    putFlow(rig, { ...FLOW, action: abi.FlowAction.FLOW_DROP });
    const bound = rig.map('datagrams').maxEntries;
    const [, { dst }] = FAMILIES[0];
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8));
    const more = { dst, protocol: 17, moreFragments: true, dontFragment: false };
    for (let n = 0; n < bound + 2000; n++)
      rig.send('inside', ether(buildIpv4({ ...more, src: CLIENT.ip4, id: n }, body)));
    expect([...rig.map('datagrams').keys()].length).toBeLessThanOrEqual(bound);
    putFlow(rig, FLOW);
    const packets = datagram(FAMILIES[0][1], 65_000);
    expect(packets.map((one) => end('inside', ether(one)))).toEqual(['forwarded', 'forwarded', 'forwarded']);
  });
});

describe('what no fragment may be', () => {
  const { src, dst } = FAMILIES[0][1];
  it('a first one without its whole transport header', () => {
    const tcp = buildPacket({ src, dst, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 } }).subarray(
      20,
    );
    const cut = (length: number): Uint8Array =>
      buildIpv4({ src, dst, protocol: 6, moreFragments: true, dontFragment: false }, tcp.subarray(0, length));
    putFlow(rig);
    expect(end('inside', ether(cut(16)))).toBe('DROP_MALFORMED');
    const v6 = { src: CLIENT.ip6, dst: SERVER.ip6 };
    const piece = buildIpv6Fragment({ nextHeader: 6, offset: 0, more: true, id: 3 }, tcp.subarray(0, 16));
    expect(end('inside', ether(buildIpv6({ ...v6, nextHeader: 44 }, piece)))).toBe('DROP_MALFORMED');
  });

  it('one that would rewrite the flags of TCP (RFC 3128)', () => {
    const fields = { src, dst, protocol: 6, dontFragment: false, fragmentOffset: 1 };
    expect(end('inside', ether(buildIpv4(fields, new Uint8Array(24))))).toBe('DROP_MALFORMED');
    expect(end('inside', ether(buildIpv4({ ...fields, protocol: 17 }, new Uint8Array(24))))).toBe('punted');
  });

  it('a fragment inside a fragment', () => {
    const v6 = { src: CLIENT.ip6, dst: SERVER.ip6 };
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8), v6);
    const twice = buildIpv6Fragment(
      { nextHeader: 44, offset: 0, more: true, id: 1 },
      buildIpv6Fragment({ nextHeader: 17, offset: 0, more: true, id: 2 }, body),
    );
    expect(end('inside', ether(buildIpv6({ ...v6, nextHeader: 44 }, twice)))).toBe('DROP_UNSUPPORTED');
  });
});

describe('fragments of IPv6', () => {
  const v6 = FAMILIES[1][1];
  it('an atomic one is a packet like any other (RFC 6946), and leaves no trace', () => {
    putFlow(rig, { ...v6, ...FLOW });
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(8), v6);
    const atomic = buildIpv6Fragment({ nextHeader: 17, offset: 0, more: false, id: 1 }, body);
    expect(end('inside', ether(buildIpv6({ ...v6, nextHeader: 44 }, atomic)))).toBe('forwarded');
    expect([...rig.map('datagrams').keys()]).toEqual([]);
  });

  it('follow their first whatever next header the later ones name, also behind options', () => {
    putFlow(rig, { ...v6, ...FLOW });
    const body = buildUdp({ srcPort: 5000, dstPort: 53 }, new Uint8Array(152), v6);
    const wrap = (fields: { nextHeader: number; offset: number; more: boolean }): Uint8Array =>
      buildIpv6(
        { ...v6, nextHeader: 0 },
        buildIpv6Extension(44, 8, buildIpv6Fragment({ ...fields, id: 5 }, body.subarray(fields.offset * 8))),
      );
    expect(end('inside', ether(wrap({ nextHeader: 17, offset: 0, more: true })))).toBe('forwarded');
    expect(end('inside', ether(wrap({ nextHeader: 6, offset: 10, more: false })))).toBe('forwarded');
  });
});

describe('an ICMP error in pieces', () => {
  it('goes the way of the flow that its first piece quotes', () => {
    const [, ends] = FAMILIES[0];
    putFlow(rig, { ...ends, ...FLOW });
    const quoted = buildPacket({
      ...ends,
      transport: { kind: 'udp', srcPort: 5000, dstPort: 53 },
      payload: new Uint8Array(200),
    });
    const message = buildIcmp({ type: 3, code: 1, rest: 0 }, quoted);
    const whole = { src: '198.51.100.9', dst: CLIENT.ip4, protocol: 1, id: 3, dontFragment: false };
    const cut = fragmentIpv4(buildIpv4(whole, message), 120);
    if (!cut.ok) throw new Error(cut.why);
    for (const packet of cut.value) {
      const fate = sendOne(rig, 'outside', ether(packet, macOf('outside'), SERVER.mac));
      expect(toHex(fate.data)).toBe(toHex(outerFrame(NODES[1], inner(1, packet), ENTROPY)));
    }
  });
});

describe('ports and nodes that do not ask for decisions', () => {
  it('hold fragments without their first too: a flow may be theirs', () => {
    const loose = tunnelValue(rig, { kind: abi.TunnelKind.TUNNEL_TO_NODE, node: 1, strictReturn: 0 });
    rig.put('tunnels', tunnelKey(NODES[1], 0), loose);
    const [first, second] = datagram(FAMILIES[0][1]) as [Uint8Array, Uint8Array];
    expect(end('underlay', back(1, second))).toBe('punted');
    expect(end('underlay', back(1, first))).toBe('forwarded');
    expect(end('underlay', back(1, second))).toBe('forwarded');
  });
});
