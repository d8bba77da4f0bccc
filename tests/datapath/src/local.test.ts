// SPDX-License-Identifier: Apache-2.0
import {
  buildArp,
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildPacket,
  buildUdp,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromRemote, NODES, OWN, UNDERLAY } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
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
