// SPDX-License-Identifier: Apache-2.0
// A service node's program on the arms of a router: what was routed goes back into the tunnel, what the machine itself is asked there is the stack's.
import { buildEthernet, buildIcmp, buildIpv6, buildPacket, toHex } from '@detour/wire';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { type Kind, sentTo } from './kinds.js';
import { CLIENT, SERVER } from './network.js';
import { NODE_MACS, openNodeRig, turned } from './node-rig.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const KIND: Kind = { protocol: 'geneve', l3: true, remote: '192.0.2.31', tag: 5002 };
const OWN = ['10.20.1.1', '2001:db8:20::1'] as const;
const tcp = { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 } as const;
const back = { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags: 16 } as const;

const rig = openRig();
const node = openNodeRig(rig);
publishAll(rig);
beforeEach(() => node.setUpArms(KIND, OWN));
afterAll(() => {
  node[Symbol.dispose]();
  rig[Symbol.dispose]();
});

const typeOf = (packet: Uint8Array) => ((packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800);
/** As the router sends it out of an arm. */
const from = (
  side: 0 | 1,
  packet: Uint8Array,
  dst: string = NODE_MACS.from[side],
  etherType = typeOf(packet),
) => buildEthernet({ dst, src: NODE_MACS.to[side], etherType }, packet);
const ends = (v6: boolean) =>
  v6 ? { src: CLIENT.ip6, dst: SERVER.ip6 } : { src: CLIENT.ip4, dst: SERVER.ip4 };
const fromGateway = (packet: Uint8Array) => sentTo(KIND, packet);

describe('the arms of a router', () => {
  it.each([false, true])('what it routed goes back with the TTL that it left, IPv6: %s', (v6) => {
    const ttl = (left: number, way: 'request' | 'reply') =>
      buildPacket({
        ...(way === 'request' ? ends(v6) : { src: ends(v6).dst, dst: ends(v6).src }),
        ttl: left,
        transport: way === 'request' ? tcp : back,
      });
    for (const [way, side] of [
      ['request', 0],
      ['reply', 1],
    ] as const) {
      const came = node.underlay(fromGateway(ttl(64, way)));
      const want = buildEthernet(
        { dst: NODE_MACS.to[side], src: NODE_MACS.from[side], etherType: v6 ? 0x86dd : 0x0800 },
        ttl(64, way),
      );
      expect([came.verdict, toHex(came.data)]).toEqual(['redirect', toHex(want)]);
      const other = side === 0 ? 1 : 0;
      const { verdict, data } = node.side(other, from(other, ttl(63, way)));
      expect([verdict, toHex(data)]).toEqual(['redirect', toHex(turned(fromGateway(ttl(63, way))))]);
    }
  });

  const packet = buildPacket({ ...ends(false), transport: tcp });
  const to = (dst: string, src: string) => buildPacket({ src, dst, transport: tcp });
  const solicitation = (hopLimit: number, dst: string = SERVER.ip6) =>
    buildIpv6(
      { src: CLIENT.ip6, dst, nextHeader: 58, hopLimit },
      buildIcmp({ type: 135, code: 0, rest: 0 }, new Uint8Array(16), { src: CLIENT.ip6, dst }),
    );
  it.each([
    ['ARP', from(0, new Uint8Array(28), NODE_MACS.from[0], 0x0806)],
    ['to another MAC address', from(1, packet, '02:00:00:00:09:99')],
    ['to all', from(1, packet, 'ff:ff:ff:ff:ff:ff')],
    ['to the machine’s own address on that arm', from(0, to(OWN[0], '10.20.1.2'))],
    ['the same, IPv6', from(1, to(OWN[1], '2001:db8:20::2'))],
    ['neighbour discovery', from(1, solicitation(255))],
  ])('the stack’s: %s', (_what, frame) => {
    node.underlay(fromGateway(packet));
    const { verdict, data } = node.side(toHex(frame).startsWith('020000000901') ? 0 : 1, frame);
    expect([verdict, toHex(data)]).toEqual(['pass', toHex(frame)]);
  });

  it.each([
    ['of no flow', 'DROP_STRICT_RETURN', from(1, to('198.51.100.7', '10.1.0.77'))],
    ['to the machine’s address on the other arm', 'DROP_STRICT_RETURN', from(1, to(OWN[0], '10.20.1.2'))],
    [
      'what looks like neighbour discovery and has crossed a router',
      'DROP_UNSUPPORTED',
      from(1, solicitation(254)),
    ],
  ] as const)('not the stack’s, which would route it: %s', (_what, why, frame) => {
    const before = node.drops(why);
    expect(node.side(1, frame).verdict).toBe('drop');
    expect(node.drops(why) - before).toBe(1n);
  });

  it('what comes back by the arm that it went to has not crossed the router', () => {
    node.underlay(fromGateway(packet));
    const before = node.drops('DROP_SERVICE_LOOP');
    expect(node.side(0, from(0, packet)).verdict).toBe('drop');
    expect(node.drops('DROP_SERVICE_LOOP') - before).toBe(1n);
  });
});
