// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildPacket,
  buildUdp,
  concatBytes,
  toHex,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  BRANCH_END,
  BRANCH_HOP,
  CHAIN,
  fromRemote,
  hopValue,
  MTU,
  NODES,
  OWN,
  PATH,
  PORT,
  UNDERLAY,
} from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clientFrame, putFlow } from './flow-records.js';
import { BRANCH, CLIENT, macOf, SERVER, SILENT } from './network.js';
import { openRig } from './rig.js';
import { startAfresh } from './world.js';

const rig = openRig();
beforeEach(() => startAfresh(rig));
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { EVENT_TOO_BIG, EVENT_OUTER_ERROR, EVENT_PUNT_NEIGH } = abi.EventType;
const { INJECT_PORT, INJECT_RETURN, INJECT_LEAVE } = abi.InjectOp;
type Device = Parameters<typeof sendOne>[1];
const end = (device: Device, frame: Uint8Array): string => sendOne(rig, device, frame).end;
const FAMILIES = [
  ['IPv4', { src: CLIENT.ip4, dst: SERVER.ip4 }, 20],
  ['IPv6', { src: CLIENT.ip6, dst: SERVER.ip6 }, 40],
] as const;
const ofSize = (ends: { src: string; dst: string }, header: number, size: number): Uint8Array =>
  clientFrame({ ...ends, payload: new Uint8Array(size - header - 20) });
/** What tunnel-gw hears: the event and the packet as it was on its port. */
function heard(): { fits: number; op: number; port: number; node: number; packet: string }[] {
  return rig.events().map(({ event, packet }) => {
    expect(event.type).toBe(EVENT_TOO_BIG);
    return { fits: event.oldPath, op: event.op, port: event.port, node: event.node, packet: toHex(packet) };
  });
}

describe.each(FAMILIES)('%s that is larger than its way takes', (_family, ends, header) => {
  it('to a node: tunnel-gw hears of it, with what the tunnel takes', () => {
    putFlow(rig, ends);
    expect(end('inside', ofSize(ends, header, MTU))).toBe('forwarded');
    const frame = ofSize(ends, header, MTU + 1);
    expect(end('inside', frame)).toBe('punted');
    expect(heard()).toEqual([
      { fits: MTU, op: INJECT_PORT, port: PORT.inside, node: 0, packet: toHex(frame) },
    ]);
  });

  it('to a node over IPv6: with what that tunnel takes', () => {
    rig.put('hops', 3, hopValue(rig, NODES[3], 3, MTU - 20));
    putFlow(rig, { ...ends, path: PATH.six, chain: CHAIN.six });
    expect(end('inside', ofSize(ends, header, MTU - 20))).toBe('forwarded');
    expect(end('inside', ofSize(ends, header, MTU))).toBe('punted');
    expect(heard()).toMatchObject([{ fits: MTU - 20 }]);
  });

  it('from one node to the next, out of the second tunnel: as what the first returned', () => {
    rig.put('hops', 2, hopValue(rig, NODES[2], 2, 1300));
    putFlow(rig, { ...ends, path: PATH.pair, chain: CHAIN.pair });
    const packet = ofSize(ends, header, 1301).subarray(14);
    const returned = buildEthernet(
      { dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: header === 40 ? 0x86dd : 0x0800 },
      packet,
    );
    expect(end('underlay', fromRemote(NODES[1], returned))).toBe('punted');
    expect(heard()).toMatchObject([{ fits: 1300, op: INJECT_RETURN, node: 1, packet: toHex(returned) }]);
  });

  it('straight out: with the MTU of the route', () => {
    putFlow(rig, { ...ends, action: abi.FlowAction.FLOW_ALLOW });
    expect(end('inside', ofSize(ends, header, 1500))).toBe('forwarded');
    expect(end('inside', ofSize(ends, header, 1501))).toBe('punted');
    expect(heard()).toMatchObject([{ fits: 1500, op: INJECT_PORT, port: PORT.inside }]);
  });

  it('out of a VTI: with what its tunnel takes, the TTL as it came', () => {
    rig.put('hops', BRANCH_HOP, hopValue(rig, BRANCH_END, 0, 1400));
    const there = { ...ends, dst: header === 40 ? BRANCH.ip6 : BRANCH.ip4 };
    putFlow(rig, { ...there, action: abi.FlowAction.FLOW_ALLOW });
    expect(end('inside', ofSize(there, header, 1400))).toBe('forwarded');
    const frame = ofSize(there, header, 1401);
    expect(end('inside', frame)).toBe('punted');
    expect(heard()).toMatchObject([{ fits: 1400, packet: toHex(frame) }]);
  });

  it('is dropped beyond the bucket of its source, which is not that of new flows', () => {
    rig.control({ puntRate: 1, puntBurst: 2 });
    putFlow(rig, ends);
    const fates = [0, 0, 0].map(() => end('inside', ofSize(ends, header, 1460)));
    expect(fates).toEqual(['punted', 'punted', 'DROP_TOO_BIG']);
    const other = clientFrame({ ...ends, transport: { kind: 'tcp', srcPort: 1, dstPort: 443 } });
    expect(end('inside', other)).toBe('punted');
  });
});

describe('nobody is told of', () => {
  it('an ICMP error that is too big', () => {
    const [, ends] = FAMILIES[0];
    putFlow(rig, ends);
    const quoted = buildPacket({
      ...ends,
      transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 },
      payload: new Uint8Array(1460),
    });
    const error = buildIpv4(
      { src: '198.51.100.9', dst: CLIENT.ip4, protocol: 1 },
      buildIcmp({ type: 3, code: 1, rest: 0 }, quoted),
    );
    const frame = buildEthernet({ dst: macOf('outside'), src: SERVER.mac, etherType: 0x0800 }, error);
    expect(end('outside', frame)).toBe('DROP_TOO_BIG');
    expect(rig.events()).toEqual([]);
  });
});

describe("tunnel-gw's own packets", () => {
  const leave = (port: number, packet: Uint8Array): Uint8Array =>
    concatBytes(
      abi.injectHdr.encode({
        ...{
          dst: new Uint8Array(6),
          src: new Uint8Array(6),
          ethertype: abi.InjectEthertype.INJECT_ETHERTYPE,
        },
        ...{ op: INJECT_LEAVE, reason: 0, port, node: 0 },
      }),
      buildEthernet(
        {
          dst: macOf('inside'),
          src: macOf('inside'),
          etherType: (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800,
        },
        packet,
      ),
    );
  const answer = (dst: string): Uint8Array => {
    const v6 = dst.includes(':');
    const quoted = buildPacket({
      src: dst,
      dst: v6 ? SERVER.ip6 : SERVER.ip4,
      transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 },
    });
    const ends = { src: v6 ? OWN.ip6 : OWN.ip4, dst };
    return v6
      ? buildIpv6({ ...ends, nextHeader: 58 }, buildIcmp({ type: 2, code: 0, rest: MTU }, quoted, ends))
      : buildIpv4({ ...ends, protocol: 1 }, buildIcmp({ type: 3, code: 4, rest: MTU }, quoted));
  };

  it.each([
    ['IPv4', CLIENT.ip4],
    ['IPv6', CLIENT.ip6],
  ])("leave by the VRF's routing table, whatever flow they quote: %s", (_family, dst) => {
    const v6 = dst.includes(':');
    putFlow(rig, v6 ? { src: CLIENT.ip6, dst: SERVER.ip6 } : {});
    const packet = answer(dst);
    const fate = sendOne(rig, 'inject', leave(PORT.outside, packet));
    expect(fate.end).toBe('forwarded');
    expect(toHex(fate.data.subarray(0, 12))).toBe(`${CLIENT.mac}${macOf('inside')}`.replaceAll(':', ''));
    const sent = fate.data.slice(14);
    expect(sent[v6 ? 7 : 8]).toBe(63);
    expect(toHex(sent.subarray(v6 ? 8 : 12))).toBe(toHex(packet.subarray(v6 ? 8 : 12)));
  });

  it('wait for a next hop as what they are', () => {
    expect(end('inject', leave(PORT.inside, answer(SILENT.ip4)))).toBe('punted');
    expect(rig.events().map(({ event }) => [event.type, event.op])).toEqual([
      [EVENT_PUNT_NEIGH, INJECT_LEAVE],
    ]);
  });

  it('do not leave before a revision is live, nor by a port that has no VRF', () => {
    for (const port of [0, PORT.underlay, PORT.inject, 256])
      expect(end('inject', leave(port, answer(CLIENT.ip4)))).toBe('DROP_INJECT');
    rig.control({ live: 0 });
    expect(end('inject', leave(PORT.inside, answer(CLIENT.ip4)))).toBe('DROP_NOT_LIVE');
  });
});

describe('ICMP errors to the underlay address', () => {
  const outer = (v6: boolean): Uint8Array => {
    const udp = buildUdp({ srcPort: 50_000, dstPort: 4789 }, new Uint8Array(80));
    return v6
      ? buildIpv6({ src: UNDERLAY.ip6, dst: NODES[3].remote, nextHeader: 17 }, udp)
      : buildIpv4({ src: UNDERLAY.ip4, dst: NODES[1].remote, protocol: 17 }, udp);
  };
  const error = (v6: boolean, type: number, code: number, to?: string): Uint8Array => {
    const ends = v6
      ? { src: '2001:db8:ff::99', dst: to ?? UNDERLAY.ip6 }
      : { src: '192.0.2.99', dst: to ?? UNDERLAY.ip4 };
    const message = buildIcmp({ type, code, rest: 1400 }, outer(v6), v6 ? ends : undefined);
    const packet = v6
      ? buildIpv6({ ...ends, nextHeader: 58 }, message)
      : buildIpv4({ ...ends, protocol: 1 }, message);
    return buildEthernet(
      { dst: macOf('underlay'), src: UNDERLAY.peerMac, etherType: v6 ? 0x86dd : 0x0800 },
      packet,
    );
  };

  it.each([
    ['fragmentation needed', false, 3, 4],
    ['unreachable', false, 3, 1],
    ['time exceeded', false, 11, 0],
    ['packet too big', true, 2, 0],
    ['IPv6 unreachable', true, 1, 3],
    ['IPv6 time exceeded', true, 3, 0],
  ])('%s: tunnel-gw gets a copy, the stack the packet', (_name, v6, type, code) => {
    const frame = error(v6, type, code);
    const fate = sendOne(rig, 'underlay', frame);
    expect([fate.end, fate.verdict, toHex(fate.data)]).toEqual(['passed', 'pass', toHex(frame)]);
    expect(rig.events().map(({ event, packet }) => [event.type, toHex(packet)])).toEqual([
      [EVENT_OUTER_ERROR, toHex(frame)],
    ]);
  });

  it('no copy of other ICMP, of errors to others, nor beyond the bucket of the router', () => {
    for (const frame of [error(false, 8, 0), error(true, 128, 0), error(false, 3, 4, '192.0.2.200')])
      expect(end('underlay', frame)).toBe('passed');
    expect(rig.events()).toEqual([]);
    rig.control({ puntRate: 1, puntBurst: 1 });
    for (let i = 0; i < 3; i++) expect(end('underlay', error(false, 3, 4))).toBe('passed');
    expect(rig.events()).toHaveLength(1);
  });
});
