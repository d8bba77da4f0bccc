// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP errors about a packet, as a gateway sends them to its source.
 *
 * RFC 792 and RFC 1812 4.3.2 for IPv4, RFC 1191 4 for the size that fits, RFC 4443 for IPv6, RFC 8201. As much of the packet is quoted
 * as fits into 576 bytes (RFC 1812 4.3.2.3) or 1280 (RFC 4443 3.2). Nobody is told about an ICMP error, a later fragment, or a packet
 * from or to more than one (RFC 1812 4.3.2.7, RFC 4443 2.4 e).
 */
import { ipv4FromBytes, ipv6FromBytes } from './address.js';
import { viewOf } from './bytes.js';
import { buildIcmp, ICMP, ICMPV6 } from './icmp.js';
import { buildIpv4, IP_PROTOCOL } from './ipv4.js';
import { buildIpv6, IPV6_HEADER } from './ipv6.js';
import { accept, type Parsed, refuse } from './parsed.js';

/** What is said: the size that fits in bytes, or that the packet cannot be delivered. */
export type IcmpErrorNews =
  | { readonly kind: 'too-big'; readonly mtu: number }
  | { readonly kind: 'unreachable' };

const QUOTE_4 = 576 - 20 - 8;
const QUOTE_6 = 1280 - 40 - 8;
/** No link of IPv6 is smaller (RFC 8200 5), and no sender believes that one is (RFC 8201 4). */
export const IPV6_LEAST_MTU = 1280;
const INTERNETWORK_CONTROL = 0xc0; // RFC 1812 4.3.2.5
const CODE = { fragmentationNeeded: 4, hostUnreachable: 1, addressUnreachable: 3 } as const;
const ICMP_ERRORS: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);

/**
 * The IP packet that tells the source of `packet` so, from `from`. The packet may be cut short, as one that another error quoted.
 * Refused: what nobody is told about, and a packet of another family than `from`.
 */
export function icmpErrorAbout(packet: Uint8Array, from: string, news: IcmpErrorNews): Parsed<Uint8Array> {
  const version = (packet[0] ?? 0) >>> 4;
  if (version !== (from.includes(':') ? 6 : 4)) return refuse(`a packet of the family of ${from}`, version);
  return version === 4 ? about4(packet, from, news) : about6(packet, from, news);
}

function about4(packet: Uint8Array, from: string, news: IcmpErrorNews): Parsed<Uint8Array> {
  const headerLength = ((packet[0] ?? 0) & 15) * 4;
  if (headerLength < 20 || packet.length < headerLength + 8)
    return refuse('an IPv4 header and 8 bytes behind it', packet.length);
  const view = viewOf(packet);
  if ((view.getUint16(6) & 0x1fff) !== 0) return refuse('a first fragment', view.getUint16(6) & 0x1fff);
  if (packet[9] === IP_PROTOCOL.icmp && ICMP_ERRORS.has(packet[headerLength] ?? 0))
    return refuse('no ICMP error', packet[headerLength] ?? 0);
  const [src, dst] = [ipv4FromBytes(packet.subarray(12, 16)), ipv4FromBytes(packet.subarray(16, 20))];
  if (!isOne4(packet[12] ?? 0) || !isOne4(packet[16] ?? 0))
    return refuse('one sender, one receiver', `${src} to ${dst}`);
  const quote = packet.subarray(0, Math.min(view.getUint16(2), QUOTE_4));
  const message = buildIcmp(
    {
      type: ICMP.unreachable,
      code: news.kind === 'too-big' ? CODE.fragmentationNeeded : CODE.hostUnreachable,
      rest: news.kind === 'too-big' ? news.mtu : 0, // RFC 1191 4: the low 16 bits
    },
    quote,
  );
  return accept(
    buildIpv4({ src: from, dst: src, protocol: IP_PROTOCOL.icmp, tos: INTERNETWORK_CONTROL }, message),
  );
}

function about6(packet: Uint8Array, from: string, news: IcmpErrorNews): Parsed<Uint8Array> {
  if (packet.length < 48) return refuse('an IPv6 header and 8 bytes behind it', packet.length);
  const upper = upperLayer6(packet);
  if (upper.later) return refuse('a first fragment', 'a later one');
  if (upper.protocol === IP_PROTOCOL.icmpv6) {
    const type = packet[upper.at];
    if (type === undefined || type < 128 || type === 137) return refuse('no ICMP error', type ?? 'nothing');
  }
  const [src, dst] = [ipv6FromBytes(packet.subarray(8, 24)), ipv6FromBytes(packet.subarray(24, 40))];
  if (packet[8] === 0xff || packet[24] === 0xff || packet.subarray(8, 24).every((byte) => byte === 0))
    return refuse('one sender, one receiver', `${src} to ${dst}`);
  const quote = packet.subarray(0, Math.min(40 + viewOf(packet).getUint16(4), QUOTE_6));
  const ends = { src: from, dst: src };
  const message = buildIcmp(
    news.kind === 'too-big'
      ? { type: ICMPV6.tooBig, code: 0, rest: Math.max(news.mtu, IPV6_LEAST_MTU) }
      : { type: ICMPV6.unreachable, code: CODE.addressUnreachable, rest: 0 },
    quote,
    ends,
  );
  return accept(buildIpv6({ ...ends, nextHeader: IP_PROTOCOL.icmpv6 }, message));
}

/** First byte of an IPv4 address of one machine: not this network, loopback, multicast, reserved or broadcast. */
function isOne4(first: number): boolean {
  return first !== 0 && first !== 127 && first < 224;
}

/** Walks extension headers as far as the bytes go. */
function upperLayer6(packet: Uint8Array): { protocol: number; at: number; later: boolean } {
  let protocol = packet[6] ?? 0;
  let at = 40;
  for (;;) {
    const isFragment = protocol === IPV6_HEADER.fragment;
    const isOptions =
      protocol === IPV6_HEADER.hopByHop ||
      protocol === IPV6_HEADER.routing ||
      protocol === IPV6_HEADER.destination;
    if ((!isFragment && !isOptions) || at + 8 > packet.length) return { protocol, at, later: false };
    if (isFragment && (viewOf(packet).getUint16(at + 2) & 0xfff8) !== 0) return { protocol, at, later: true };
    protocol = packet[at] ?? 0;
    at += isFragment ? 8 : ((packet[at + 1] ?? 0) + 1) * 8;
  }
}
