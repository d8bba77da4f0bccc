// SPDX-License-Identifier: Apache-2.0
// Broken packets: cut at every length, with random bytes changed, and made of noise. Whatever is forwarded must be a right answer to
// what came in, as an independent parser reads it.
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildIcmp,
  buildIpv4,
  buildIpv6,
  buildIpv6Extension,
  buildPacket,
  buildUdp,
  checksum,
  parseFrame,
  parseVxlan,
  toHex,
  viewOf,
} from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BRANCH_END, CHAIN, fromRemote, NODES, PATH, PORT, UNDERLAY } from './ends.js';
import { disagreements, type Fate, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
import { CLIENT, type DeviceName, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
const { FLOW_ALLOW } = abi.FlowAction;
const UDP = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;
const PAYLOAD = Uint8Array.from({ length: 40 }, (_, i) => i);

beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  rig.put('flow_counters', 1, new Uint8Array(abi.flowCounters.size)); // a broken packet may have been the last of its connection
  for (const [src, dst] of [
    [CLIENT.ip4, SERVER.ip4],
    [CLIENT.ip6, SERVER.ip6],
  ] as const) {
    putFlow(rig, { src, dst });
    putFlow(rig, { src, dst, proto: 17, sport: 5000, dport: 53, action: FLOW_ALLOW });
    putFlow(rig, { src, dst, proto: 17, sport: 6000, dport: 53, path: PATH.pair, chain: CHAIN.pair });
  }
  putFlow(rig, { proto: 17, sport: 7000, dport: 53, path: PATH.six, chain: CHAIN.six });
  putFlow(rig, {
    src: '10.7.0.5',
    proto: 17,
    sport: 5000,
    dport: 53,
    fwdPort: PORT.branch,
    action: FLOW_ALLOW,
  });
});
afterEach(() => {
  expect(disagreements(rig)).toEqual([]);
  rig.events();
});
afterAll(() => rig[Symbol.dispose]());

function inner(packet: Uint8Array): Uint8Array {
  const etherType = (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800;
  return buildEthernet({ dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType }, packet);
}

const four = { src: CLIENT.ip4, dst: SERVER.ip4 };
const six = { src: CLIENT.ip6, dst: SERVER.ip6 };
const quoted = buildPacket({ ...four, transport: { ...UDP, srcPort: 6000 }, payload: PAYLOAD });
const error = buildIpv4(
  { src: SERVER.ip4, dst: CLIENT.ip4, protocol: 1 },
  buildIcmp({ type: 3, code: 4, rest: 1400 }, quoted),
);
const extended = buildIpv6(
  { ...six, nextHeader: 0 },
  buildIpv6Extension(
    60,
    8,
    buildIpv6Extension(17, 16, buildUdp({ srcPort: 6000, dstPort: 53 }, PAYLOAD, six)),
  ),
);

const SAMPLES: readonly [string, DeviceName, Uint8Array][] = [
  ['IPv4 TCP', 'inside', clientFrame({ payload: PAYLOAD })],
  [
    'IPv4 with options',
    'inside',
    clientFrame({ payload: PAYLOAD, ipv4: { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) } }),
  ],
  ['IPv4 UDP, allowed', 'inside', clientFrame({ transport: UDP, payload: PAYLOAD })],
  ['IPv6 TCP', 'inside', clientFrame({ ...six, payload: PAYLOAD })],
  ['IPv6 UDP, allowed', 'inside', clientFrame({ ...six, transport: UDP, payload: PAYLOAD })],
  [
    'IPv6 with extension headers',
    'inside',
    buildEthernet({ dst: macOf('inside'), src: CLIENT.mac, etherType: 0x86dd }, extended),
  ],
  [
    'an ICMP error',
    'outside',
    buildEthernet({ dst: macOf('outside'), src: SERVER.mac, etherType: 0x0800 }, error),
  ],
  [
    'IPv4 returned by a node',
    'underlay',
    fromRemote(
      NODES[1],
      inner(
        buildPacket({ ...four, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 }, payload: PAYLOAD }),
      ),
    ),
  ],
  [
    'IPv6 returned by a node',
    'underlay',
    fromRemote(
      NODES[1],
      inner(
        buildPacket({ ...six, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 }, payload: PAYLOAD }),
      ),
    ),
  ],
  [
    'returned by the first of two nodes',
    'underlay',
    fromRemote(
      NODES[1],
      inner(buildPacket({ ...four, transport: { ...UDP, srcPort: 6000 }, payload: PAYLOAD })),
    ),
  ],
  [
    'over an IPv6 underlay',
    'underlay',
    fromRemote(
      NODES[3],
      inner(buildPacket({ ...four, transport: { ...UDP, srcPort: 7000 }, payload: PAYLOAD })),
    ),
  ],
  [
    'from a branch',
    'underlay',
    fromRemote(
      BRANCH_END,
      inner(buildPacket({ ...four, src: '10.7.0.5', transport: UDP, payload: PAYLOAD })),
    ),
  ],
];

/** The tenant's packet inside a frame: behind VXLAN on the underlay. Empty when an independent parser refuses what is around it. */
function tenantPacket(where: 'port' | 'underlay', frame: Uint8Array): Uint8Array {
  if (where === 'port') return trimmed(frame);
  const outer = parseFrame(frame);
  const vxlan = outer.ok && outer.value.udp?.dstPort === 4789 ? parseVxlan(outer.value.payload) : outer;
  return vxlan.ok && 'header' in vxlan.value ? trimmed(vxlan.value.payload) : new Uint8Array(0);
}

/** The IP packet of a frame, as long as its header says. The transport is its end points' concern. */
function trimmed(frame: Uint8Array): Uint8Array {
  const packet = frame.subarray(14);
  if (packet.length < 20) return new Uint8Array(0);
  const length = (packet[0] ?? 0) >> 4 === 4 ? viewOf(packet).getUint16(2) : 40 + viewOf(packet).getUint16(4);
  return packet.subarray(0, length);
}

/** Undoes one TTL step, if there was one. */
function likeBefore(after: Uint8Array, before: Uint8Array): Uint8Array {
  const copy = after.slice();
  const v4 = (copy[0] ?? 0) >> 4 === 4;
  const at = v4 ? 8 : 7;
  if ((copy[at] ?? 0) + 1 !== before[at]) return copy;
  copy[at] = before[at] ?? 0;
  if (v4) {
    const header = copy.subarray(0, ((copy[0] ?? 0) & 15) * 4);
    viewOf(header).setUint16(10, 0);
    viewOf(header).setUint16(10, checksum(header));
  }
  return copy;
}

/** A forwarded packet is the tenant's packet, valid, on a way that its flow record allows. */
function judge(device: DeviceName, frame: Uint8Array, fate: Fate): void {
  if (fate.end !== 'forwarded') return;
  const before = tenantPacket(device === 'underlay' ? 'underlay' : 'port', frame);
  const steered = fate.data.length > frame.length + 30 || toHex(fate.data.subarray(0, 6)) === UNDERLAY_PEER;
  const after = tenantPacket(steered ? 'underlay' : 'port', fate.data);
  expect([toHex(frame), toHex(likeBefore(after, before))]).toEqual([toHex(frame), toHex(before)]);
  expect(before.length).toBeGreaterThanOrEqual(20);
  const v4 = (before[0] ?? 0) >> 4 === 4;
  if (v4) expect(checksum(before.subarray(0, ((before[0] ?? 0) & 15) * 4))).toBe(0);
  const ends = v4 ? [...before.subarray(12, 20)].join('.') : toHex(before.subarray(8, 40));
  const known = v4 ? KNOWN4 : KNOWN6;
  expect(known).toContain(ends);
}

const UNDERLAY_PEER = UNDERLAY.peerMac.replaceAll(':', '');
const KNOWN4 = ['10.1.0.5.203.0.113.9', '203.0.113.9.10.1.0.5', '10.7.0.5.203.0.113.9'];
const KNOWN6 = [six, { src: six.dst, dst: six.src }].map((ends) =>
  toHex(buildIpv6({ ...ends, nextHeader: 17 }, new Uint8Array(0)).subarray(8, 40)),
);

/** A small generator of its own, so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe.each(SAMPLES)('%s', (_name, device, frame) => {
  it('is forwarded when whole', () => {
    const fate = sendOne(rig, device, frame);
    expect(fate.end).toBe('forwarded');
    judge(device, frame, fate);
  });

  it('is never forwarded when cut short, at any length', () => {
    const fates = new Map<number, string>();
    for (let length = 14; length < frame.length; length++) {
      fates.set(length, sendOne(rig, device, frame.subarray(0, length)).end);
    }
    expect([...fates].filter(([, end]) => end === 'forwarded' || end === 'punted')).toEqual([]);
    expect(fates.get(frame.length - 1)).toBe('DROP_MALFORMED');
  });

  it('is forwarded only as a right answer when bytes of it have changed', () => {
    const random = generator(frame.length);
    for (let round = 0; round < 600; round++) {
      const broken = frame.slice();
      for (let flips = 1 + random(3); flips > 0; flips--)
        broken[random(Math.min(frame.length, 110))] = random(256);
      judge(device, broken, sendOne(rig, device, broken));
    }
  });

  it('is forwarded only as a right answer when it is followed by junk', () => {
    const longer = new Uint8Array(frame.length + 30);
    longer.set(frame);
    const fate = sendOne(rig, device, longer);
    judge(device, longer, fate);
    expect(fate.end).toBe('forwarded');
  });
});

it('noise is never forwarded', () => {
  const random = generator(7);
  for (let round = 0; round < 3000; round++) {
    const noise = Uint8Array.from({ length: 20 + random(200) }, () => random(256));
    const device = (['inside', 'outside', 'underlay', 'inject', 'stranger'] as const)[random(5)] ?? 'inside';
    if (random(2) === 1) noise.set(random(2) === 1 ? [0x08, 0x00, 0x45] : [0x86, 0xdd, 0x60], 12);
    expect(['forwarded', 'punted']).not.toContain(sendOne(rig, device, noise).end);
  }
  expect(rig.count('port_counters', PORT.inside, 2)).toBeGreaterThan(0n);
});
