// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildArp,
  buildEthernet,
  buildIcmp,
  buildIpv6,
  buildPacket,
  concatBytes,
  macToBytes,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BRANCH_END, BRANCH_HOP, fromRemote, hopValue, NODES, OWN, outerFrame } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, putFlow } from './flow-records.js';
import { CLIENT, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, tunnelKey, tunnelValue, VTI_MAC } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;
const inner = (packet: Uint8Array, dst = NODES[1].innerSrc): Uint8Array =>
  buildEthernet(
    { dst, src: NODES[1].innerDst, etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800 },
    packet,
  );
const udp = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;

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
