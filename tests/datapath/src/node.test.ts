// SPDX-License-Identifier: Apache-2.0
// A service node's program between the gateway's: what the gateway sends comes out of the pair as it was, and what the node hands back reaches the
// gateway with ends swapped and everything else as it came; nothing else gets there.
import { abi } from '@detour/contracts';
import { buildEthernet, buildIcmp, buildIpv4, buildPacket, type GeneveOption, toHex } from '@detour/wire';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, NODES, PATH } from './ends.js';
import { sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { insideOf, KINDS, type Kind, putKind, sentTo } from './kinds.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { NODE_MACS, type NodeKind, openNodeRig, turned } from './node-rig.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
const node = openNodeRig(rig);
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterAll(() => {
  node[Symbol.dispose]();
  rig[Symbol.dispose]();
});

const tcp = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 } as const;
const ends = (v6: boolean) =>
  v6 ? { src: CLIENT.ip6, dst: SERVER.ip6 } : { src: CLIENT.ip4, dst: SERVER.ip4 };
const requestOf = (v6 = false) => buildPacket({ ...ends(v6), transport: tcp });
const replyOf = (v6 = false, flags = 16) =>
  buildPacket({
    src: ends(v6).dst,
    dst: ends(v6).src,
    transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags },
  });
const request = requestOf();
const reply = replyOf();

const typeOf = (packet: Uint8Array) => ((packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800);
/** What comes out of a side of the pair. */
const outOf = (side: 0 | 1, packet: Uint8Array) =>
  buildEthernet({ dst: NODE_MACS.to[side], src: NODE_MACS.from[side], etherType: typeOf(packet) }, packet);
/** What the node sends into a side. */
const into = (packet: Uint8Array) =>
  buildEthernet({ dst: NODE_MACS.from[0], src: NODE_MACS.to[0], etherType: typeOf(packet) }, packet);

const VXLAN: NodeKind = { protocol: 'vxlan', l3: false, remote: NODES[1].remote, tag: NODES[1].vni };
const GENEVE: Kind = { protocol: 'geneve', l3: true, remote: '192.0.2.31', tag: 5002 };
const GENEVE_L2: Kind = { ...GENEVE, l3: false };

/** Where the inner Ethernet header of a frame from the gateway is. */
function ethernetAt(kind: NodeKind, frame: Uint8Array, packet: Uint8Array): number | undefined {
  return kind.l3 ? undefined : frame.length - packet.length - 14;
}

/** From the gateway through the node, which takes `handed` across, and back into the gateway. */
function crosses(kind: NodeKind, device: 'inside' | 'outside', packet: Uint8Array): string {
  const from = device === 'inside' ? CLIENT.mac : SERVER.mac;
  const sent = sendOne(
    rig,
    device,
    buildEthernet({ dst: macOf(device), src: from, etherType: typeOf(packet) }, packet),
  );
  expect(sent.end).toBe('forwarded');
  const side = device === 'inside' ? 0 : 1;
  const came = node.underlay(sent.data);
  expect([came.verdict, toHex(came.data)]).toEqual(['redirect', toHex(outOf(side, packet))]);
  const back = node.side(side === 0 ? 1 : 0, into(packet));
  const want = turned(sent.data, ethernetAt(kind, sent.data, packet));
  expect([back.verdict, toHex(back.data)]).toEqual(['redirect', toHex(want)]);
  return sendOne(rig, 'underlay', back.data).end;
}

describe('round trip', () => {
  it.each(Object.entries(KINDS))('%s', (_name, kind) => {
    putKind(rig, kind);
    node.setUp(kind);
    for (const v6 of [false, true]) {
      putFlow(rig, ends(v6));
      expect(crosses(kind, 'inside', requestOf(v6))).toBe('forwarded');
      expect(crosses(kind, 'outside', replyOf(v6))).toBe('forwarded');
    }
    expect(node.counters()).toMatchObject({ inPackets: 4n, backPackets: 4n, dropped: 0n, echoIn: 0n });
  });

  it('VXLAN', () => {
    node.setUp(VXLAN);
    putFlow(rig, ends(false));
    expect(crosses(VXLAN, 'inside', request)).toBe('forwarded');
    expect(crosses(VXLAN, 'outside', reply)).toBe('forwarded');
  });

  const id = (last: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, last);
  const gwlb: Kind = {
    protocol: 'geneve',
    l3: true,
    remote: '192.0.2.51',
    tag: 0,
    options: [
      { optionClass: 0x0108, type: 1, data: id(7) },
      { optionClass: 0x0108, type: 2, data: id(1) },
      { optionClass: 0x0108, type: 3, data: new Uint8Array(4) },
    ],
    tunnelFlags: abi.TunnelFlag.TUNNEL_COOKIE,
    hopFlags: abi.HopFlag.HOP_COOKIE,
    flowAt: 28,
  };
  const path = abi.genevePath.encode({
    class: 0xff44,
    type: 0x81,
    len: 12,
    version: 1,
    flags: 0,
    sidx: 0,
    budget: 63,
    path: 0,
    chain: 0,
    action: 0,
    scope: 0,
    tenant: 7,
    source: new Uint8Array(16),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    cookie: 0,
  });
  const metadata: Kind = {
    protocol: 'geneve',
    l3: false,
    remote: '192.0.2.52',
    tag: 6001,
    options: [{ optionClass: 0xff44, type: 0x81, data: path.subarray(4) }],
    tunnelFlags: abi.TunnelFlag.TUNNEL_PATH,
    hopFlags: abi.HopFlag.HOP_PATH,
    flowAt: 0,
  };
  it.each([
    ['a gateway load balancer’s cookie', gwlb],
    ['our option', metadata],
  ])('%s comes back with its own flow and direction, of two at once', (_what, kind) => {
    putKind(rig, kind);
    node.setUp(kind);
    putFlow(rig, { slot: 5 });
    putFlow(rig, { slot: 6, sport: 40_001 });
    const other = buildPacket({ ...ends(false), transport: { ...tcp, srcPort: 40_001 } });
    expect(crosses(kind, 'inside', request)).toBe('forwarded');
    expect(crosses(kind, 'inside', other)).toBe('forwarded');
    expect(crosses(kind, 'outside', reply)).toBe('forwarded');
    // The first flow again, from the node alone: what it gets is not the last packet's.
    const again = node.side(1, into(request));
    expect(sendOne(rig, 'underlay', again.data).end).toBe('forwarded');
  });

  it('our option says which way a packet goes, whichever came first', () => {
    putKind(rig, metadata);
    node.setUp(metadata);
    putFlow(rig, { slot: 5, path: PATH.one, chain: CHAIN.two });
    expect(crosses(metadata, 'outside', reply)).toBe('forwarded');
    expect(crosses(metadata, 'inside', request)).toBe('forwarded');
  });
});

const fromGateway = (packet: Uint8Array, kind: Kind = GENEVE, fields: Parameters<typeof sentTo>[2] = {}) =>
  sentTo(kind, insideOf(kind, packet, { dst: '02:00:00:00:04:31', src: '02:00:00:00:06:01' }), {
    srcPort: ENTROPY,
    ...fields,
  });
const rises = (name: Parameters<typeof node.drops>[0], act: () => { verdict: string }): void => {
  const before = node.drops(name);
  expect(act().verdict).toBe('drop');
  expect(node.drops(name) - before).toBe(1n);
};

describe('which side', () => {
  beforeEach(() => node.setUp(GENEVE));
  const comesOut = (packet: Uint8Array) => {
    const { verdict, data } = node.underlay(fromGateway(packet));
    expect(verdict).toBe('redirect');
    return toHex(data.subarray(0, 6)) === toHex(outOf(0, packet).subarray(0, 6)) ? 0 : 1;
  };

  it('a flow’s first packet out of the first side, unless it is a SYN-ACK; a later SYN decides anew', () => {
    expect(comesOut(reply)).toBe(0);
    expect(comesOut(request)).toBe(1);
    expect(comesOut(buildPacket({ ...ends(false), transport: { ...tcp, flags: 2 } }))).toBe(0);
    expect(comesOut(reply)).toBe(1);
    node.setUp(GENEVE);
    expect(comesOut(replyOf(false, 18))).toBe(1);
    expect(comesOut(request)).toBe(0);
  });

  it('what comes back by the side that it came out of is dropped: it has not crossed the node', () => {
    node.underlay(fromGateway(request));
    rises('DROP_SERVICE_LOOP', () => node.side(0, into(request)));
    expect(node.side(1, into(request)).verdict).toBe('redirect');
  });

  it('a packet of a flow that never came in is dropped', () => {
    rises('DROP_STRICT_RETURN', () => node.side(1, into(request)));
    expect(node.flows()).toBe(0);
  });

  it('a reset that the node makes goes by the flow’s other direction', () => {
    const sent = fromGateway(request);
    node.underlay(sent);
    const reset = replyOf(false, 4);
    const { verdict, data } = node.side(0, into(reset));
    expect([verdict, toHex(data)]).toEqual(['redirect', toHex(turned(fromGateway(reset)))]);
  });

  it('ICMP errors go with the flow that they quote, out of the side of its replies', () => {
    node.underlay(fromGateway(request));
    const error = buildIpv4(
      { src: '198.51.100.254', dst: CLIENT.ip4, protocol: 1 },
      buildIcmp({ type: 3, code: 4, rest: 1400 }, request),
    );
    expect(comesOut(error)).toBe(1);
    expect(node.side(0, into(error)).verdict).toBe('redirect');
    expect(node.flows()).toBe(1);
  });

  it('fragments go with their first, and come back by their identification', () => {
    const udp = buildPacket({
      ...ends(false),
      transport: { kind: 'udp', srcPort: 5000, dstPort: 53 },
      payload: new Uint8Array(64),
    });
    const part = (from: number, to: number, more: boolean) =>
      buildIpv4(
        {
          ...ends(false),
          protocol: 17,
          id: 77,
          dontFragment: false,
          moreFragments: more,
          fragmentOffset: from / 8,
        },
        udp.subarray(20 + from, 20 + to),
      );
    const [first, later] = [part(0, 40, true), part(40, 72, false)];
    rises('DROP_FRAGMENT', () => node.underlay(fromGateway(later)));
    expect([comesOut(first), comesOut(later)]).toEqual([0, 0]);
    for (const packet of [later, first])
      expect(toHex(node.side(1, into(packet)).data)).toBe(toHex(turned(fromGateway(packet))));
    expect(node.side(1, into(udp)).verdict).toBe('redirect'); // put together by the node
  });
});

describe('between the inner addresses', () => {
  beforeEach(() => node.setUp(GENEVE_L2));
  const bfd = (ttl: number, src = '169.254.1.1', dst = '169.254.1.2') =>
    buildPacket({
      src,
      dst,
      ttl,
      transport: { kind: 'udp', srcPort: 49_152, dstPort: 3784 },
      payload: new Uint8Array(24),
    });

  it('BFD has a device of its own; the answer, of other ports, goes back from there, and from nowhere else', () => {
    const { data } = node.underlay(fromGateway(bfd(255), GENEVE_L2));
    expect(toHex(data)).toBe(toHex(outOf(0, bfd(255))));
    const answer = into(bfd(255, '169.254.1.2', '169.254.1.1'));
    expect(node.side('link', answer).verdict).toBe('redirect');
    rises('DROP_STRICT_RETURN', () => node.side(0, answer));
    rises('DROP_STRICT_RETURN', () => node.side('link', into(request)));
    expect(node.counters()).toMatchObject({ linkIn: 1n, linkBack: 1n });
  });

  it('BFD from further than one hop is dropped', () => {
    rises('DROP_TTL', () => node.underlay(fromGateway(bfd(254), GENEVE_L2)));
  });

  it('packets of the gateway to itself are counted in and back', () => {
    const echo = buildPacket({
      src: '169.254.1.1',
      dst: '169.254.1.1',
      ttl: 255,
      transport: { kind: 'udp', srcPort: 49_152, dstPort: 3785 },
      payload: new Uint8Array(24),
    });
    expect(node.underlay(fromGateway(echo, GENEVE_L2)).verdict).toBe('redirect');
    expect(node.counters()).toMatchObject({ echoIn: 1n, echoBack: 0n });
    rises('DROP_SERVICE_LOOP', () => node.side(0, into(echo)));
    expect(node.side(1, into(echo)).verdict).toBe('redirect');
    expect(node.counters()).toMatchObject({ echoIn: 1n, echoBack: 1n });
  });
});

describe('what a gateway may not send', () => {
  beforeEach(() => node.setUp(GENEVE));
  const option = (type: number): GeneveOption => ({ optionClass: 0x0123, type, data: new Uint8Array(4) });

  it('another VNI: dropped, and kept for people to see', () => {
    rises('DROP_TUNNEL_UNKNOWN', () => node.underlay(fromGateway(request, { ...GENEVE, tag: 77 })));
    expect(node.counters()).toMatchObject({ wrongTagPackets: 1n, wrongTag: 77n, inPackets: 0n });
  });

  it('a critical option that is not known: dropped; one that is not critical comes back', () => {
    rises('DROP_TUNNEL_OPTION', () =>
      node.underlay(fromGateway(request, GENEVE, { options: [option(0x85)] })),
    );
    const most = Array.from({ length: 22 }, () => option(5));
    const sent = fromGateway(request, GENEVE, { options: most });
    expect(toHex(node.underlay(sent).data)).toBe(toHex(outOf(0, request)));
    expect(toHex(node.side(1, into(request)).data)).toBe(toHex(turned(sent)));
    const more = Array.from({ length: 31 }, () => option(5)); // for which there would be no room on the way back
    rises('DROP_ADJUST', () => node.underlay(fromGateway(request, GENEVE, { options: more })));
  });

  it('a wrong checksum, a message for the other end, another thing inside, a packet larger than the pair takes', () => {
    const wrong = fromGateway(request, { ...GENEVE, checksum: true });
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
    rises('DROP_TUNNEL_CHECKSUM', () => node.underlay(wrong));
    rises('DROP_TUNNEL_HEADER', () => node.underlay(fromGateway(request, GENEVE, { control: true })));
    rises('DROP_TUNNEL_HEADER', () => node.underlay(fromGateway(request, GENEVE, { protocol: 0x6558 })));
    node.setUp(GENEVE, request.length - 1);
    rises('DROP_TOO_BIG', () => node.underlay(fromGateway(request)));
  });

  it('congestion that the underlay marked goes on inside, and drops what cannot say so', () => {
    rises('DROP_TUNNEL_HEADER', () => node.underlay(fromGateway(request, GENEVE, { ecn: 3 })));
    const capable = (tos: number) => buildPacket({ ...ends(false), transport: tcp, ipv4: { tos } });
    const { data } = node.underlay(fromGateway(capable(2), GENEVE, { ecn: 3 }));
    expect(toHex(data)).toBe(toHex(outOf(0, capable(3))));
  });

  it('a stranger’s packets are the stack’s, and kept for people to see', () => {
    const before = node.stranger().packets;
    const frame = fromGateway(request);
    frame[29] = 99; // 192.0.2.99
    const sum = (frame[24] ?? 0) * 256 + (frame[25] ?? 0) - 98;
    frame.set([sum >> 8, sum & 255], 24);
    expect(node.underlay(frame).verdict).toBe('pass');
    expect(node.stranger().packets - before).toBe(1n);
    expect([...node.stranger().src.subarray(12)]).toEqual([192, 0, 2, 99]);
  });

  it('nobody else’s packets are touched', () => {
    const plain = buildEthernet({ dst: macOf('underlay'), src: SERVER.mac, etherType: 0x0800 }, request);
    expect(node.underlay(plain)).toMatchObject({ verdict: 'pass' });
    expect(toHex(node.underlay(plain).data)).toBe(toHex(plain));
  });
});

describe('ARP', () => {
  it('for the inner address is answered by the way it came; for another it is not', () => {
    node.setUp(GENEVE_L2);
    const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
    const ask = (target: string) =>
      sentTo(
        GENEVE_L2,
        hex(
          `ffffffffffff 020000000601 0806 0001 0800 06 04 0001 020000000601 a9fe0101 000000000000 ${target}`,
        ),
      );
    const { verdict, data } = node.underlay(ask('a9fe0102'));
    expect(verdict).toBe('tx');
    const want = hex(
      '020000000601 020000000801 0806 0001 0800 06 04 0002 020000000801 a9fe0102 020000000601 a9fe0101',
    );
    expect(toHex(data.subarray(data.length - want.length))).toBe(toHex(want));
    expect(toHex(data.subarray(0, 50))).toBe(toHex(turned(ask('a9fe0102')).subarray(0, 50)));
    rises('DROP_UNSUPPORTED', () => node.underlay(ask('a9fe0103')));
  });
});

describe('broken packets', () => {
  const kinds: readonly (readonly [string, Kind])[] = Object.entries(KINDS);
  it.each(kinds)(
    '%s: cut or changed, nothing comes out but what an intact packet could have been',
    (_n, kind) => {
      node.setUp(kind);
      let seed = 7;
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        return (seed >>> 8) % below;
      };
      const whole = fromGateway(request, kind);
      for (let length = 14; length < whole.length; length++)
        expect(node.underlay(whole.slice(0, length)).verdict).not.toBe('redirect');
      for (let round = 0; round < 400; round++) {
        const frame = whole.slice();
        for (let i = 0; i <= random(3); i++) frame[random(frame.length)] = random(256);
        const { verdict, data } = node.underlay(frame);
        if (verdict !== 'redirect') continue;
        // What went to the node is the end of what came, behind an Ethernet header of ours.
        const inner = data.subarray(14);
        const ecn = [...inner].filter((byte, i) => byte !== frame[frame.length - inner.length + i]);
        expect(ecn.length).toBeLessThanOrEqual(3);
        expect(node.side(1, into(inner.slice())).data.length).toBeGreaterThan(0);
      }
      for (let length = 14; length < 14 + request.length; length++) {
        const cut = into(request).slice(0, length);
        expect(node.side(1, cut).verdict).toBe('drop');
      }
    },
  );
});
