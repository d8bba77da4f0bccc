// SPDX-License-Identifier: Apache-2.0
// What of a packet is the same behind a whole trip through two nodes: options and extension headers, class of service, all but one TTL; and what
// the underlay said of congestion on any of its tunnels (RFC 6040).
import {
  buildEthernet,
  buildIpv4,
  buildIpv6,
  buildIpv6Extension,
  buildUdp,
  buildVxlan,
  parseFrame,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, outerFrame, PATH, UNDERLAY } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const V4 = { src: CLIENT.ip4, dst: SERVER.ip4 } as const;
const V6 = { src: CLIENT.ip6, dst: SERVER.ip6 } as const;
const FLOW = { proto: 17, sport: 5000, dport: 53, path: PATH.pair, chain: CHAIN.pair } as const;
const body = (ends: { src: string; dst: string }): Uint8Array =>
  buildUdp({ srcPort: 5000, dstPort: 53 }, Uint8Array.of(1, 2, 3, 4), ends);
const ether = (packet: Uint8Array, dst: string, src: string): Uint8Array =>
  buildEthernet({ dst, src, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 }, packet);
const inner = (node: 1 | 2, packet: Uint8Array): Uint8Array =>
  ether(packet, NODES[node].innerDst, NODES[node].innerSrc);
const back = (node: 1 | 2, packet: Uint8Array, ecn = 0): Uint8Array =>
  fromRemote(NODES[node], ether(packet, NODES[node].innerSrc, NODES[node].innerDst), ecn);

describe('a packet on its way through two nodes', () => {
  it.each([
    ['IPv4', V4, (ttl: number) => buildIpv4({ ...V4, protocol: 17, ttl, tos: 0xb8 }, body(V4))],
    [
      'IPv4 with record route and router alert',
      V4,
      (ttl: number) => {
        const options = Uint8Array.of(148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0);
        return buildIpv4({ ...V4, protocol: 17, ttl, id: 99, dontFragment: false, options }, body(V4));
      },
    ],
    [
      'IPv6 with its class and flow label',
      V6,
      (hopLimit: number) =>
        buildIpv6({ ...V6, nextHeader: 17, hopLimit, trafficClass: 0xb8, flowLabel: 0x12345 }, body(V6)),
    ],
    [
      'IPv6 with hop-by-hop, routing and destination options',
      V6,
      (hopLimit: number) => {
        const options = buildIpv6Extension(
          43,
          8,
          buildIpv6Extension(60, 16, buildIpv6Extension(17, 24, body(V6))),
        );
        return buildIpv6({ ...V6, nextHeader: 0, hopLimit }, options);
      },
    ],
  ])('%s: nothing but its TTL changes, and that by one, where it leaves', (_name, ends, packet) => {
    putFlow(rig, { ...ends, ...FLOW });
    const first = sendOne(rig, 'inside', ether(packet(9), macOf('inside'), CLIENT.mac));
    expect(toHex(first.data)).toBe(toHex(outerFrame(NODES[1], inner(1, packet(9)), ENTROPY)));
    const second = sendOne(rig, 'underlay', back(1, packet(9)));
    expect(toHex(second.data)).toBe(toHex(outerFrame(NODES[2], inner(2, packet(9)), ENTROPY)));
    const out = sendOne(rig, 'underlay', back(2, packet(9)));
    expect(toHex(out.data)).toBe(toHex(ether(packet(8), SERVER.mac, macOf('outside'))));
  });

  it('is taken with any outer UDP checksum, zero or not (RFC 7348 4.1)', () => {
    putFlow(rig, { ...V4, ...FLOW });
    const packet = buildIpv4({ ...V4, protocol: 17 }, body(V4));
    const vxlan = buildVxlan({ vni: NODES[2].vni }, ether(packet, NODES[2].innerSrc, NODES[2].innerDst));
    const ends = { src: NODES[2].remote, dst: UNDERLAY.ip4 };
    for (const addresses of [undefined, ends]) {
      const udp = buildUdp({ srcPort: 50_000, dstPort: 4789 }, vxlan, addresses);
      expect(udp[6] === 0 && udp[7] === 0).toBe(addresses === undefined);
      const frame = ether(buildIpv4({ ...ends, protocol: 17 }, udp), macOf('underlay'), UNDERLAY.peerMac);
      expect(sendOne(rig, 'underlay', frame).end).toBe('forwarded');
    }
  });
});

/** RFC 6040 4.2, figure 4: [inner][outer] → what the inner packet says then; null: dropped. */
const NOT = 0;
const ECT1 = 1;
const ECT0 = 2;
const CE = 3;
const COMBINED: Readonly<Record<number, readonly (number | null)[]>> = {
  [NOT]: [NOT, NOT, NOT, null],
  [ECT1]: [ECT1, ECT1, ECT1, CE],
  [ECT0]: [ECT0, ECT1, ECT0, CE],
  [CE]: [CE, CE, CE, CE],
};
const CASES = [NOT, ECT1, ECT0, CE].flatMap((innerEcn) =>
  [NOT, ECT1, ECT0, CE].map(
    (outerEcn) => [innerEcn, outerEcn, COMBINED[innerEcn]?.[outerEcn] ?? null] as const,
  ),
);

describe.each([
  ['IPv4', V4],
  ['IPv6', V6],
])('congestion told on a tunnel, %s', (_name, ends) => {
  const marked = (ecn: number, ttl = 64): Uint8Array =>
    ends === V4
      ? buildIpv4({ ...V4, protocol: 17, ttl, tos: 0xb8 | ecn }, body(V4))
      : buildIpv6({ ...V6, nextHeader: 17, hopLimit: ttl, trafficClass: 0xb8 | ecn }, body(V6));

  it.each(CASES)(
    'inner %i, outer %i: %s, for the next node and outside its tunnel',
    (innerEcn, outerEcn, told) => {
      putFlow(rig, { ...ends, ...FLOW });
      const fate = sendOne(rig, 'underlay', back(1, marked(innerEcn), outerEcn));
      if (told === null) expect(fate.end).toBe('DROP_TUNNEL_HEADER');
      else expect(toHex(fate.data)).toBe(toHex(outerFrame(NODES[2], inner(2, marked(told)), ENTROPY, told)));
    },
  );

  it.each(CASES)(
    'inner %i, outer %i: %s, where it leaves, its header sum right',
    (innerEcn, outerEcn, told) => {
      putFlow(rig, { ...ends, ...FLOW });
      const fate = sendOne(rig, 'underlay', back(2, marked(innerEcn), outerEcn));
      if (told === null) expect(fate.end).toBe('DROP_TUNNEL_HEADER');
      else {
        expect(toHex(fate.data)).toBe(toHex(ether(marked(told, 63), SERVER.mac, macOf('outside'))));
        expect(parseFrame(fate.data).ok).toBe(true);
      }
    },
  );
});
