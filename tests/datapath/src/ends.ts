// SPDX-License-Identifier: Apache-2.0
// Names and numbers of the tests' world: ports, nodes behind VXLAN, chains, paths; and what their packets look like outside.
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildIpv4,
  buildIpv6,
  buildUdp,
  buildVxlan,
  concatBytes,
  macToBytes,
  onesSum,
} from '@detour/wire';
import { macOf } from './network.js';
import type { Rig } from './rig.js';

export const VRF = 7;
export const PORT = { inside: 1, outside: 2, branch: 3, plain: 4, inject: 9, underlay: 10 } as const;
export const UNDERLAY = { ip4: '192.0.2.1', ip6: '2001:db8:ff::1', peerMac: '02:00:00:00:03:01' } as const;
export const OWN = { ip4: '10.1.0.1', ip6: '2001:db8:1::1' } as const;
export const MTU = 1450;

export interface RemoteEnd {
  readonly remote: string;
  readonly local: string;
  readonly vni: number;
  readonly innerDst: string;
  readonly innerSrc: string;
}

function end(remote: string, vni: number, tail: string): RemoteEnd {
  const local = remote.includes(':') ? UNDERLAY.ip6 : UNDERLAY.ip4;
  return { remote, local, vni, innerDst: `02:00:00:00:04:${tail}`, innerSrc: `02:00:00:00:05:${tail}` };
}

/** Node numbers are hop numbers too. Node 3 is reached over IPv6. */
export const NODES = {
  1: end('192.0.2.11', 4001, '01'),
  2: end('192.0.2.12', 4001, '02'),
  3: end('2001:db8:ff::13', 4003, '03'),
} as const;
export type NodeNumber = keyof typeof NODES;
export const BRANCH_END = end('203.0.113.70', 70, '70');
export const BRANCH_HOP = 70;

/** 1: nodes 1 and 2. 2: two hops, 1 then 2. 3: IPv6 underlay. 4: backs up chain 5. 5: backup 4. 6: bypass. */
export const CHAIN = { two: 1, pair: 2, six: 3, reserve: 4, backed: 5, open: 6 } as const;
export const PATH = { one: 1, two: 2, pair: 3, six: 4, reserve: 5, backed: 6, open: 7 } as const;

/** The outer frame of an inner one, as the hop rows say it. */
export function outerFrame(to: RemoteEnd, inner: Uint8Array, entropy: number, ecn = 0): Uint8Array {
  return tunnelFrame(
    { src: to.local, dst: to.remote, srcMac: macOf('underlay'), dstMac: UNDERLAY.peerMac },
    to.vni,
    inner,
    entropy,
    ecn,
  );
}

/** What a node (or branch) sends to us. */
export function fromRemote(from: RemoteEnd, inner: Uint8Array, ecn = 0): Uint8Array {
  return tunnelFrame(
    { src: from.remote, dst: from.local, srcMac: UNDERLAY.peerMac, dstMac: macOf('underlay') },
    from.vni,
    inner,
    50_000,
    ecn,
  );
}

function tunnelFrame(
  ends: { src: string; dst: string; srcMac: string; dstMac: string },
  vni: number,
  inner: Uint8Array,
  srcPort: number,
  ecn: number,
): Uint8Array {
  const udp = buildUdp({ srcPort, dstPort: 4789 }, buildVxlan({ vni }, inner));
  const v6 = ends.src.includes(':');
  const packet = v6
    ? buildIpv6({ src: ends.src, dst: ends.dst, nextHeader: 17, trafficClass: ecn }, udp)
    : buildIpv4({ src: ends.src, dst: ends.dst, protocol: 17, tos: ecn }, udp);
  return buildEthernet({ dst: ends.dstMac, src: ends.srcMac, etherType: v6 ? 0x86dd : 0x0800 }, packet);
}

export function hopValue(rig: Rig, to: RemoteEnd, node: number, mtu = MTU): Uint8Array {
  const v6 = to.remote.includes(':');
  const inner = concatBytes(macToBytes(to.innerDst), macToBytes(to.innerSrc), Uint8Array.of(8, 0));
  const bytes = outerFrame(to, inner, 0);
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  header.set(bytes);
  const l3 = header.subarray(14);
  l3.fill(0, v6 ? 4 : 2, v6 ? 6 : 4);
  if (!v6) l3.fill(0, 10, 12);
  header.fill(0, v6 ? 14 + 44 : 14 + 24, v6 ? 14 + 46 : 14 + 26);
  const sum = onesSum(l3.subarray(0, 20));
  return abi.hop.encode({
    ifindex: rig.ifindex.underlay,
    node,
    mtu,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: abi.TunnelProto.TUNNEL_VXLAN,
    headerLen: bytes.length,
    outerL3: 14,
    outerIp6: v6 ? 1 : 0,
    innerL3: 0,
    outerCsum: v6 ? 0 : ((sum & 0xff) << 8) | (sum >>> 8),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    flags: 0,
    typeAt: bytes.length - 2,
    patchAt: 0,
    header,
  });
}
