// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP errors about outer packets, read: what a router of the underlay says, and which tunnel's packet it quotes. Pure.
 *
 * RFC 2003 5 and RFC 2473 8 say what becomes of them: a size that fits is one for the inner packet less the headers in front of it;
 * every other error says that the inner packet's destination cannot be reached. Routers quote 8 bytes behind the IP header at least
 * (RFC 792), so the inner packet is there only sometimes. Believed is an error whose quotation is one of our own packets in every field
 * that the hop row fixes: addresses, protocol, port, tunnel header (RFC 5927 4.1 asks for such checks).
 */
import { abi } from '@detour/contracts';
import {
  accept,
  checksum,
  ETHERTYPE,
  ICMP,
  ICMPV6,
  IP_PROTOCOL,
  type Parsed,
  parseEthernet,
  parseIcmp,
  parseIpv4,
  parseIpv6,
  pseudoSum,
  refuse,
  viewOf,
} from '@detour/wire';

export interface OuterError {
  /** mtu 0: the router does not say it. */
  readonly news: { readonly kind: 'too-big'; readonly mtu: number } | { readonly kind: 'unreachable' };
  readonly router: string;
  /** Our outer packet from its IP header on, as much of it as the router gave back. */
  readonly quoted: Uint8Array;
}

const FRAGMENTATION_NEEDED = 4;
const IN_TRANSIT = 0;

/** Refused: what is no ICMP error, or damaged, or no news about a packet on its way. */
export function parseOuterError(frame: Uint8Array): Parsed<OuterError> {
  const ethernet = parseEthernet(frame);
  if (!ethernet.ok) return ethernet;
  const { header, payload } = ethernet.value;
  return header.etherType === ETHERTYPE.ipv6 ? parse6(payload) : parse4(payload);
}

function parse4(packet: Uint8Array): Parsed<OuterError> {
  const ip = parseIpv4(packet);
  if (!ip.ok) return ip;
  if (ip.value.header.protocol !== IP_PROTOCOL.icmp) return refuse('ICMP', ip.value.header.protocol);
  if (checksum(ip.value.payload) !== 0) return refuse('an intact checksum', checksum(ip.value.payload));
  const icmp = parseIcmp(ip.value.payload);
  if (!icmp.ok) return icmp;
  const { type, code, rest } = icmp.value.header;
  const said = { router: ip.value.header.src, quoted: icmp.value.payload };
  if (type === ICMP.unreachable && code === FRAGMENTATION_NEEDED)
    return accept({ ...said, news: { kind: 'too-big', mtu: rest & 0xffff } });
  if (type === ICMP.unreachable || (type === ICMP.timeExceeded && code === IN_TRANSIT))
    return accept({ ...said, news: { kind: 'unreachable' } });
  return refuse('unreachable or time exceeded in transit', `type ${type} code ${code}`);
}

function parse6(packet: Uint8Array): Parsed<OuterError> {
  const ip = parseIpv6(packet);
  if (!ip.ok) return ip;
  const { src, dst, nextHeader } = ip.value.header;
  if (nextHeader !== IP_PROTOCOL.icmpv6) return refuse('ICMPv6', nextHeader);
  const { payload } = ip.value;
  const sum = checksum(payload, pseudoSum({ src, dst, protocol: nextHeader }, payload.length));
  if (sum !== 0) return refuse('an intact checksum', sum);
  const icmp = parseIcmp(payload);
  if (!icmp.ok) return icmp;
  const { type, code, rest } = icmp.value.header;
  const said = { router: src, quoted: icmp.value.payload };
  if (type === ICMPV6.tooBig) return accept({ ...said, news: { kind: 'too-big', mtu: rest } });
  if (type === ICMPV6.unreachable || (type === ICMPV6.timeExceeded && code === IN_TRANSIT))
    return accept({ ...said, news: { kind: 'unreachable' } });
  return refuse('unreachable, too big or time exceeded in transit', `type ${type} code ${code}`);
}

/** Total length of an outer packet, from its own header. */
export function outerBytes(quoted: Uint8Array): number {
  if (quoted.length < 8) return 0;
  return (quoted[0] ?? 0) >>> 4 === 6 ? 40 + viewOf(quoted).getUint16(4) : viewOf(quoted).getUint16(2);
}

/** Whether `quoted` is a packet that this hop row sent. The fields that differ from packet to packet do not count. */
export function isOfHop(hop: abi.Hop, quoted: Uint8Array): boolean {
  const template = hop.header.subarray(hop.outerL3, hop.headerLen);
  const v6 = hop.outerIp6 === 1;
  const ipBytes = v6 ? 40 : 20;
  if (hop.headerLen === 0 || quoted.length < ipBytes + 8) return false;
  const same = (from: number, to: number): boolean => {
    for (let at = from; at < to && at < quoted.length; at++) if (quoted[at] !== template[at]) return false;
    return true;
  };
  const protocolAt = v6 ? 6 : 9;
  const ip = v6 ? (quoted[0] ?? 0) >>> 4 === 6 && same(8, 40) : quoted[0] === template[0] && same(12, 20);
  if (!ip || !same(protocolAt, protocolAt + 1)) return false;
  const typeAt = hop.typeAt - hop.outerL3; // of a tunnel of IP packets: the packet's own
  const tunnel = (from: number, to: number): boolean =>
    hop.innerL3 === 1 && typeAt >= from && typeAt < to
      ? same(from, typeAt) && same(typeAt + 2, to)
      : same(from, to);
  if (template[protocolAt] === IP_PROTOCOL.udp)
    return same(ipBytes + 2, ipBytes + 4) && tunnel(ipBytes + 8, ipBytes + 16);
  const checked = (hop.flags & abi.HopFlag.HOP_CHECKSUM) !== 0; // its checksum stands between flags and key
  const keyAt = ipBytes + (checked ? 8 : 4);
  return tunnel(ipBytes, ipBytes + 4) && same(keyAt, Math.min(keyAt + 4, innerAt(hop)));
}

/** The inner IP packet, as far as it is quoted; null where less than its IP header and 8 bytes are. */
export function quotedInner(hop: abi.Hop, quoted: Uint8Array): Uint8Array | null {
  const inner = quoted.subarray(hop.headerLen - hop.outerL3);
  const version = (inner[0] ?? 0) >>> 4;
  const least = version === 6 ? 48 : ((inner[0] ?? 0) & 15) * 4 + 8;
  return (version === 4 || version === 6) && least >= 28 && inner.length >= least ? inner : null;
}

/** Where the row's header ends that is the tunnel's own: an inner Ethernet header is the neighbour's. */
function innerAt(hop: abi.Hop): number {
  return hop.headerLen - hop.outerL3 - (hop.innerL3 === 1 ? 0 : 14);
}
