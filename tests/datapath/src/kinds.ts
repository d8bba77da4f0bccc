// SPDX-License-Identifier: Apache-2.0
// Tunnels of every kind that is no VXLAN, put in the place of node 1 and its VTI: their rows, and what their packets look like outside.
import { abi } from '@detour/contracts';
import {
  buildEthernet,
  buildGeneve,
  buildGre,
  buildIpv4,
  buildIpv6,
  buildUdp,
  concatBytes,
  type GeneveOption,
  ipToKeyBytes,
  macToBytes,
  onesSum,
  viewOf,
} from '@detour/wire';
import { BRANCH_HOP, MTU, UNDERLAY } from './ends.js';
import { macOf } from './network.js';
import type { Rig } from './rig.js';
import { tunnelValue, VTI_MAC } from './world.js';

export interface Kind {
  readonly protocol: 'geneve' | 'gre';
  /** IP packets inside; else Ethernet frames. */
  readonly l3: boolean;
  readonly remote: string;
  /** VNI, or GRE key; GRE may have none. */
  readonly tag?: number;
  readonly checksum?: boolean;
  readonly options?: readonly GeneveOption[];
  readonly tunnelFlags?: number;
  readonly hopFlags?: number;
  /** Offset of what depends on the flow, from the first option on. */
  readonly flowAt?: number;
}

const FOUR = '192.0.2.31';
const SIX = '2001:db8:ff::31';

export const KINDS: Readonly<Record<string, Kind>> = {
  'Geneve, Ethernet inside, over IPv4': { protocol: 'geneve', l3: false, remote: FOUR, tag: 5001 },
  'Geneve, Ethernet inside, over IPv6': { protocol: 'geneve', l3: false, remote: SIX, tag: 5001 },
  'Geneve, IP inside, over IPv4': { protocol: 'geneve', l3: true, remote: FOUR, tag: 5002 },
  'Geneve, IP inside, over IPv6 with a checksum': {
    protocol: 'geneve',
    l3: true,
    remote: SIX,
    tag: 5002,
    checksum: true,
  },
  'Geneve, Ethernet inside, over IPv4 with a checksum': {
    protocol: 'geneve',
    l3: false,
    remote: FOUR,
    tag: 0,
    checksum: true,
  },
  'GRE, IP inside, over IPv4': { protocol: 'gre', l3: true, remote: FOUR },
  'GRE, IP inside, over IPv6': { protocol: 'gre', l3: true, remote: SIX },
  'GRE with key, Ethernet inside, over IPv4': { protocol: 'gre', l3: false, remote: FOUR, tag: 0xfedcba98 },
  'GRE with key and checksum, IP inside, over IPv4': {
    protocol: 'gre',
    l3: true,
    remote: FOUR,
    tag: 0,
    checksum: true,
  },
  'GRE with key and checksum, Ethernet inside, over IPv6': {
    protocol: 'gre',
    l3: false,
    remote: SIX,
    tag: 7,
    checksum: true,
  },
};

export const INNER_PEER = '02:00:00:00:04:31';

/** The Ethernet frame, or the IP packet, that stands inside. */
export function insideOf(kind: Kind, packet: Uint8Array, macs: { dst: string; src: string }): Uint8Array {
  return kind.l3 ? packet : buildEthernet({ ...macs, etherType: etherTypeOf(packet) }, packet);
}

export function etherTypeOf(packet: Uint8Array): number {
  return (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800;
}

export interface OuterFields {
  readonly srcPort?: number;
  readonly ecn?: number;
  readonly options?: readonly GeneveOption[];
  readonly control?: boolean;
  readonly protocol?: number;
  readonly udpChecksum?: boolean;
}

/** The outer frame from us to the remote end of an IP packet (or, with L2, of the frame) inside. */
export function sentTo(kind: Kind, inside: Uint8Array, fields: OuterFields = {}): Uint8Array {
  const local = kind.remote.includes(':') ? UNDERLAY.ip6 : UNDERLAY.ip4;
  return outer(
    kind,
    { src: local, dst: kind.remote, srcMac: macOf('underlay'), dstMac: UNDERLAY.peerMac },
    inside,
    fields,
  );
}

/** What the remote end sends to us. */
export function cameFrom(kind: Kind, inside: Uint8Array, fields: OuterFields = {}): Uint8Array {
  const local = kind.remote.includes(':') ? UNDERLAY.ip6 : UNDERLAY.ip4;
  return outer(
    kind,
    { src: kind.remote, dst: local, srcMac: UNDERLAY.peerMac, dstMac: macOf('underlay') },
    inside,
    { srcPort: 50_000, ...fields },
  );
}

function outer(
  kind: Kind,
  ends: { src: string; dst: string; srcMac: string; dstMac: string },
  inside: Uint8Array,
  fields: OuterFields,
): Uint8Array {
  const protocol = fields.protocol ?? (kind.l3 ? etherTypeOf(inside) : 0x6558);
  const checksum = fields.udpChecksum ?? kind.checksum === true;
  const srcPort = fields.srcPort ?? 0;
  const gre = { protocol, checksum, ...(kind.tag !== undefined && { key: kind.tag }) };
  const geneve = {
    vni: kind.tag ?? 0,
    protocol,
    options: fields.options ?? kind.options ?? [],
    control: fields.control === true,
  };
  const body =
    kind.protocol === 'gre'
      ? buildGre(gre, inside)
      : buildUdp({ srcPort, dstPort: 6081 }, buildGeneve(geneve, inside), checksum ? ends : undefined);
  const number = kind.protocol === 'gre' ? 47 : 17;
  const ecn = fields.ecn ?? 0;
  const v6 = ends.src.includes(':');
  const packet = v6
    ? buildIpv6({ src: ends.src, dst: ends.dst, nextHeader: number, trafficClass: ecn }, body)
    : buildIpv4({ src: ends.src, dst: ends.dst, protocol: number, tos: ecn }, body);
  if (v6 && number === 47 && fields.srcPort !== undefined && ends.src === UNDERLAY.ip6)
    viewOf(packet).setUint16(2, fields.srcPort); // the flow label is the entropy
  return buildEthernet({ dst: ends.dstMac, src: ends.srcMac, etherType: v6 ? 0x86dd : 0x0800 }, packet);
}

/** Node 1 behind this tunnel instead of its own, and the branch VTI's way out through it; both banks. */
export function putKind(rig: Rig, kind: Kind): void {
  for (const bank of [0, 1] as const) {
    const { DetourLimit: limit, TunnelKind } = abi;
    const flags = (kind.tunnelFlags ?? 0) | (kind.checksum === true ? abi.TunnelFlag.TUNNEL_CHECKSUM : 0);
    const row = tunnelValue(rig, {
      kind: TunnelKind.TUNNEL_TO_NODE,
      node: 1,
      strictReturn: 1,
      innerL3: kind.l3 ? 1 : 0,
      flags,
    });
    rig.put('tunnels', kindKey(kind, bank), row);
    rig.put('node_tunnels', bank * limit.DT_MAX_NODES + 1, row);
    rig.put('hops', bank * limit.DT_MAX_HOPS + 1, kindHop(rig, kind, 1));
    rig.put('hops', bank * limit.DT_MAX_HOPS + BRANCH_HOP, kindHop(rig, kind, 0));
  }
}

export function kindProto(kind: Kind): number {
  const { TunnelProto: proto } = abi;
  if (kind.protocol === 'geneve') return proto.TUNNEL_GENEVE;
  return kind.tag === undefined ? proto.TUNNEL_GRE_PLAIN : proto.TUNNEL_GRE;
}

export function kindKey(kind: Kind, bank: 0 | 1): Uint8Array {
  return abi.tunnelKey.encode({
    src: ipToKeyBytes(kind.remote),
    dst: ipToKeyBytes(kind.remote.includes(':') ? UNDERLAY.ip6 : UNDERLAY.ip4),
    vni: kind.tag ?? 0,
    proto: kindProto(kind),
    bank,
  });
}

/** Made from a whole frame without a payload by taking out what is filled in per packet. */
export function kindHop(rig: Rig, kind: Kind, node: number, mtu = MTU): Uint8Array {
  const v6 = kind.remote.includes(':');
  const inner = kind.l3
    ? new Uint8Array(0)
    : concatBytes(macToBytes(INNER_PEER), macToBytes(VTI_MAC), Uint8Array.of(8, 0));
  const bytes = sentTo(kind, inner, { protocol: kind.l3 ? 0x0800 : 0x6558 });
  const l3 = bytes.subarray(14);
  const l4 = bytes.subarray(v6 ? 54 : 34);
  l3.fill(0, v6 ? 4 : 2, v6 ? 6 : 4);
  if (!v6) l3.fill(0, 10, 12);
  if (kind.protocol === 'geneve') l4.fill(0, 4, 8);
  else if (kind.checksum === true) l4.fill(0, 4, 6);
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  header.set(bytes);
  const sum = onesSum(l3.subarray(0, 20));
  const tunnelAt = (v6 ? 54 : 34) + (kind.protocol === 'geneve' ? 8 : 0);
  return abi.hop.encode({
    ifindex: rig.ifindex.underlay,
    node,
    mtu,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: kindProto(kind),
    headerLen: bytes.length,
    outerL3: 14,
    outerIp6: v6 ? 1 : 0,
    innerL3: kind.l3 ? 1 : 0,
    outerCsum: v6 ? 0 : ((sum & 0xff) << 8) | (sum >>> 8),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    flags: (kind.hopFlags ?? 0) | (kind.checksum === true ? abi.HopFlag.HOP_CHECKSUM : 0),
    typeAt: kind.l3 ? tunnelAt + 2 : bytes.length - 2,
    patchAt: kind.flowAt === undefined ? 0 : tunnelAt + 8 + kind.flowAt,
    header,
  });
}
