// SPDX-License-Identifier: Apache-2.0
// Geneve and GRE, with Ethernet frames and with IP packets inside, over IPv4 and IPv6: what goes out byte for byte, what comes in, what is refused.
import { buildEthernet, buildPacket, type FrameFields, fromHex, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BRANCH_HOP, OWN } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { cameFrom, etherTypeOf, INNER_PEER, insideOf, KINDS, type Kind, putKind, sentTo } from './kinds.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, VTI_MAC } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const FAMILIES = [
  ['IPv4', 'ip4'],
  ['IPv6', 'ip6'],
] as const;
const payload = new TextEncoder().encode('a payload of an odd number of bytes'.padEnd(701, '.'));

function request(ends: Pick<FrameFields, 'src' | 'dst'> & Partial<FrameFields>): Uint8Array {
  const transport = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16, seq: 7 } as const;
  return buildPacket({ transport, payload, ...ends });
}

const frame = (packet: Uint8Array, dst: string, src: string): Uint8Array =>
  buildEthernet({ dst, src, etherType: etherTypeOf(packet) }, packet);
const out = { dst: INNER_PEER, src: VTI_MAC };
const back = { dst: VTI_MAC, src: INNER_PEER };
const end = (bytes: Uint8Array): string => sendOne(rig, 'underlay', bytes).end;

describe.each(Object.entries(KINDS))('%s', (_name, kind: Kind) => {
  beforeEach(() => putKind(rig, kind));

  describe.each(FAMILIES)('with %s inside', (_family, ip) => {
    const there = { src: CLIENT[ip], dst: SERVER[ip] };

    it('a flow goes to its node behind a whole outer header', () => {
      putFlow(rig, there);
      const fate = sendOne(rig, 'inside', frame(request(there), macOf('inside'), CLIENT.mac));
      expect(fate.end).toBe('forwarded');
      const sent = sentTo(kind, insideOf(kind, request(there), out), { srcPort: ENTROPY });
      expect(toHex(fate.data)).toBe(toHex(sent));
    });

    it('what the node returns leaves, the TTL one less', () => {
      putFlow(rig, there);
      const returned = cameFrom(kind, insideOf(kind, request(there), back));
      const fate = sendOne(rig, 'underlay', returned);
      expect(fate.end).toBe('forwarded');
      const leaves = frame(request({ ...there, ttl: 63 }), SERVER.mac, macOf('outside'));
      expect(toHex(fate.data)).toBe(toHex(leaves));
    });

    it('a packet for an own address is delivered through the VTI', () => {
      const own = buildPacket({
        src: ip === 'ip4' ? '10.1.0.77' : '2001:db8:1::77',
        dst: OWN[ip],
        transport: { kind: 'udp', srcPort: 49152, dstPort: 3784 },
      });
      const fate = sendOne(rig, 'underlay', cameFrom(kind, insideOf(kind, own, back)));
      expect(fate).toMatchObject({ end: 'passed', verdict: 'redirect' });
      const source = kind.l3 ? VTI_MAC : INNER_PEER;
      expect(toHex(fate.data)).toBe(toHex(frame(own, VTI_MAC, source)));
    });

    it("what the gateway's kernel sends into the VTI goes out, with its ECN", () => {
      const packet = request({
        ...there,
        ...(ip === 'ip4' ? { ipv4: { tos: 2 } } : { ipv6: { trafficClass: 2 } }),
      });
      const fate = sendOne(rig, 'vtiInner', frame(packet, INNER_PEER, VTI_MAC));
      expect(fate.end).toBe('forwarded');
      const sent = sentTo(kind, insideOf(kind, packet, out), { srcPort: 0xc000 | BRANCH_HOP, ecn: 2 });
      expect(toHex(fate.data)).toBe(toHex(sent));
    });

    it('ECN is copied outwards and DSCP is not; congestion marked outside is marked inside', () => {
      putFlow(rig, there);
      const marked = (tos: number, ttl = 64) =>
        request({ ...there, ttl, ...(ip === 'ip4' ? { ipv4: { tos } } : { ipv6: { trafficClass: tos } }) });
      const fate = sendOne(rig, 'inside', frame(marked(0xb9), macOf('inside'), CLIENT.mac));
      const sent = sentTo(kind, insideOf(kind, marked(0xb9), out), { srcPort: ENTROPY, ecn: 1 });
      expect(toHex(fate.data)).toBe(toHex(sent));
      const returned = sendOne(
        rig,
        'underlay',
        cameFrom(kind, insideOf(kind, marked(0xb9), back), { ecn: 3 }),
      );
      expect(toHex(returned.data)).toBe(toHex(frame(marked(0xbb, 63), SERVER.mac, macOf('outside'))));
      expect(end(cameFrom(kind, insideOf(kind, marked(0xb8), back), { ecn: 3 }))).toBe('DROP_TUNNEL_HEADER');
    });
  });

  const there = { src: CLIENT.ip4, dst: SERVER.ip4 };
  const inside = insideOf(kind, request(there), back);

  it('from an unknown end, or with another VNI or key, is dropped; to an address that is not ours it is not ours', () => {
    putFlow(rig, there);
    const elsewhere = kind.remote.includes(':') ? '2001:db8:ff::66' : '192.0.2.66';
    expect(end(cameFrom({ ...kind, remote: elsewhere }, inside))).toBe('DROP_TUNNEL_UNKNOWN');
    expect(end(cameFrom({ ...kind, tag: 99 }, inside))).toBe('DROP_TUNNEL_UNKNOWN');
    const v6 = kind.remote.includes(':');
    const toOthers = cameFrom(kind, inside);
    toOthers.set(fromHex(v6 ? '20010db800ff00000000000000000055' : 'c0000237'), v6 ? 38 : 30);
    expect(end(toOthers)).toBe('passed');
  });

  it('carries only what the tunnel says is inside', () => {
    putFlow(rig, there);
    const other = { ...kind, l3: !kind.l3 };
    expect(end(cameFrom(other, insideOf(other, request(there), back)))).toBe('DROP_TUNNEL_HEADER');
    expect(end(cameFrom(kind, inside, { protocol: 0x0806 }))).toBe('DROP_TUNNEL_HEADER');
  });

  it('a flow that was never sent to the node is dropped when the node returns it', () => {
    expect(end(cameFrom(kind, inside))).toBe('DROP_STRICT_RETURN');
  });

  it('what is cut short is never forwarded, at any length', () => {
    putFlow(rig, there);
    const whole = cameFrom(kind, inside);
    expect(end(whole)).toBe('forwarded');
    for (let length = 14; length < whole.length; length += length < 150 ? 1 : 37)
      expect(['forwarded', 'punted']).not.toContain(end(whole.subarray(0, length)));
  });
});

const of = (name: string): Kind => {
  const kind = KINDS[name];
  if (kind === undefined) throw new Error(`no kind ${name}`);
  return kind;
};
const there = { src: CLIENT.ip4, dst: SERVER.ip4 };

/** A frame with `bytes` written over it, and the outer IPv4 header left as it is. */
function over(frame: Uint8Array, at: number, bytes: string): Uint8Array {
  const copy = frame.slice();
  copy.set(fromHex(bytes), at);
  return copy;
}

describe('Geneve headers', () => {
  const kind = of('Geneve, IP inside, over IPv4');
  const packet = request(there);
  const leaves = toHex(frame(request({ ...there, ttl: 63 }), SERVER.mac, macOf('outside')));
  beforeEach(() => {
    putKind(rig, kind);
    putFlow(rig, there);
  });
  const option = (type: number, words = 1, optionClass = 0x1234) => ({
    optionClass,
    type,
    data: new Uint8Array(words * 4).fill(0xaa),
  });

  it.each([
    ['one', [option(1)]],
    ['an empty one', [option(1, 0)]],
    ['as many as fit', Array.from({ length: 63 }, () => option(2, 0))],
    ['as long as may be', [option(1, 31), option(3, 30)]],
    ["a load balancer's, which this tunnel does not ask for", [option(3, 1, 0x0108)]],
  ])('options that nobody here knows are skipped: %s', (_what, options) => {
    const fate = sendOne(rig, 'underlay', cameFrom(kind, packet, { options }));
    expect(fate.end).toBe('forwarded');
    expect(toHex(fate.data)).toBe(leaves);
  });

  it.each([
    ['alone', [option(0x81)]],
    ['behind others', [option(1, 3), option(2, 0), option(0xff, 2)]],
    ['in the last place that there is', [...Array.from({ length: 62 }, () => option(2, 0)), option(0x80, 0)]],
    ['ours, on a tunnel that does not carry it', [option(0x81, 12, 0xff44)]],
  ])('a critical option that is not known drops the packet: %s', (_what, options) => {
    expect(end(cameFrom(kind, packet, { options }))).toBe('DROP_TUNNEL_OPTION');
  });

  it.each([
    ['another version', 42, '40'],
    ['options longer than the packet says', 42, '3f'],
    ['an option that runs past the options', 53, '1f'],
  ])('%s: dropped', (_what, at, bytes) => {
    const whole = cameFrom(kind, packet, { options: [option(1)] });
    expect(end(whole)).toBe('forwarded');
    expect(end(over(whole, at, bytes))).toBe('DROP_TUNNEL_HEADER');
  });

  it('a control packet is delivered to us, and never forwarded', () => {
    expect(end(cameFrom(kind, packet, { control: true }))).toBe('DROP_TUNNEL_HEADER');
    const own = buildPacket({
      src: '10.1.0.77',
      dst: OWN.ip4,
      transport: { kind: 'udp', srcPort: 1, dstPort: 3784 },
    });
    expect(end(cameFrom(kind, own, { control: true }))).toBe('passed');
  });

  it('a UDP checksum is verified when there is one, at any length', () => {
    for (const bytes of [0, 1, 2, 3, 4, 5, 127, 128, 129, 255, 256, 257, 511, 600, 1399, 1400]) {
      const body = request({
        ...there,
        payload: new Uint8Array(bytes).fill(7),
      });
      const whole = cameFrom(kind, body, { udpChecksum: true });
      expect([bytes, end(whole)]).toEqual([bytes, 'forwarded']);
      expect([bytes, end(over(whole, 40, 'beef'))]).toEqual([bytes, 'DROP_TUNNEL_CHECKSUM']);
    }
  });

  it('an outer fragment is dropped', () => {
    const first = cameFrom(kind, packet);
    first[20] = 0x20;
    first.set(fromHex('0000'), 24);
    const sum = first
      .subarray(14, 34)
      .reduce((total, byte, i) => total + (i % 2 === 0 ? byte << 8 : byte), 0);
    const folded = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    first.set([folded >> 8, folded & 255], 24);
    expect(end(first)).toBe('DROP_FRAGMENT');
  });
});

describe('GRE headers', () => {
  const kind = of('GRE, IP inside, over IPv4');
  const packet = request(there);
  beforeEach(() => {
    putKind(rig, kind);
    putFlow(rig, there);
  });

  it('a checksum is verified when there is one, and must be there where the tunnel says so', () => {
    const whole = cameFrom(kind, packet, { udpChecksum: true });
    expect(end(whole)).toBe('forwarded');
    expect(end(over(whole, 38, 'beef'))).toBe('DROP_TUNNEL_CHECKSUM');
    putKind(rig, { ...kind, checksum: true });
    expect(end(whole)).toBe('forwarded');
    expect(end(cameFrom(kind, packet))).toBe('DROP_TUNNEL_HEADER');
  });

  it('no key is another tunnel than key 0', () => {
    const plain = { ...kind, remote: '192.0.2.41' };
    putKind(rig, plain);
    expect(end(cameFrom({ ...plain, tag: 0 }, packet))).toBe('DROP_TUNNEL_UNKNOWN');
    expect(end(cameFrom(plain, packet))).toBe('forwarded');
    putKind(rig, { ...plain, tag: 0 });
    expect(end(cameFrom({ ...plain, tag: 0 }, packet))).toBe('forwarded');
  });

  it.each([
    ['a sequence number', '10000800'],
    ['routing', '40000800'],
    ['strict source route', '08000800'],
    ['version 1, PPTP', '00010800'],
  ])('%s: dropped', (_what, bytes) => {
    expect(end(over(cameFrom(kind, packet), 34, bytes))).toBe('DROP_TUNNEL_HEADER');
  });

  it('bits that a receiver must ignore are ignored', () => {
    expect(end(over(cameFrom(kind, packet), 34, '00f80800'))).toBe('forwarded');
  });
});
