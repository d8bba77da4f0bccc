// SPDX-License-Identifier: Apache-2.0
/** A whole frame at once: built from one flat description, or taken apart down to the transport header, for tests and traces. */
import { buildEthernet, ETHERTYPE, type Ethernet, parseEthernet } from './ethernet.js';
import { buildIcmp, echoRest, ICMP, ICMPV6, type Icmp, parseIcmp } from './icmp.js';
import { buildIpv4, IP_PROTOCOL, type Ipv4, type Ipv4Fields, parseIpv4 } from './ipv4.js';
import { buildIpv6, type Ipv6, type Ipv6Fields, parseIpv6 } from './ipv6.js';
import { accept, type Parsed } from './parsed.js';
import { buildTcp, parseTcp, type Tcp, type TcpFields } from './tcp.js';
import { buildUdp, parseUdp, type Udp } from './udp.js';

export type Transport =
  | ({ readonly kind: 'tcp' } & TcpFields)
  | { readonly kind: 'udp'; readonly srcPort: number; readonly dstPort: number }
  | {
      readonly kind: 'echo';
      readonly identifier: number;
      readonly sequence?: number;
      readonly reply?: boolean;
    };

export interface FrameFields {
  readonly dstMac?: string;
  readonly srcMac?: string;
  /** Both of one family, which decides between IPv4 and IPv6. */
  readonly src: string;
  readonly dst: string;
  readonly transport: Transport;
  readonly payload?: Uint8Array;
  readonly ttl?: number;
  readonly ipv4?: Partial<Ipv4Fields>;
  readonly ipv6?: Partial<Ipv6Fields>;
}

const EMPTY = new Uint8Array(0);

/** The IP packet, all lengths and checksums right. @throws RangeError on a bad address */
export function buildPacket(fields: FrameFields): Uint8Array {
  const { src, dst, transport } = fields;
  const payload = fields.payload ?? EMPTY;
  const v6 = src.includes(':');
  const ttl = fields.ttl ?? 64;
  const [protocol, body] = buildTransport(transport, payload, { src, dst }, v6);
  return v6
    ? buildIpv6({ src, dst, nextHeader: protocol, hopLimit: ttl, ...fields.ipv6 }, body)
    : buildIpv4({ src, dst, protocol, ttl, ...fields.ipv4 }, body);
}

function buildTransport(
  transport: Transport,
  payload: Uint8Array,
  addresses: { src: string; dst: string },
  v6: boolean,
): [number, Uint8Array] {
  switch (transport.kind) {
    case 'tcp':
      return [IP_PROTOCOL.tcp, buildTcp(transport, payload, addresses)];
    case 'udp':
      return [IP_PROTOCOL.udp, buildUdp(transport, payload, addresses)];
    case 'echo': {
      const rest = echoRest(transport.identifier, transport.sequence ?? 1);
      const reply = transport.reply === true;
      if (v6) {
        const type = reply ? ICMPV6.echoReply : ICMPV6.echo;
        return [IP_PROTOCOL.icmpv6, buildIcmp({ type, code: 0, rest }, payload, addresses)];
      }
      return [
        IP_PROTOCOL.icmp,
        buildIcmp({ type: reply ? ICMP.echoReply : ICMP.echo, code: 0, rest }, payload),
      ];
    }
  }
}

/** The same with an Ethernet header. Default MACs: 02:00:00:00:00:02 to 02:00:00:00:00:01. */
export function buildFrame(fields: FrameFields): Uint8Array {
  const etherType = fields.src.includes(':') ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4;
  const dst = fields.dstMac ?? '02:00:00:00:00:01';
  const src = fields.srcMac ?? '02:00:00:00:00:02';
  return buildEthernet({ dst, src, etherType }, buildPacket(fields));
}

/** What `parseFrame` found; a layer is absent where the frame has none that is known here. */
export interface Frame {
  readonly ethernet: Ethernet;
  readonly ipv4?: Ipv4;
  readonly ipv6?: Ipv6;
  readonly tcp?: Tcp;
  readonly udp?: Udp;
  readonly icmp?: Icmp;
  /** Behind the last layer that was parsed. */
  readonly payload: Uint8Array;
}

/** Refuses a frame in which any layer that is present is broken. A later fragment has no transport layer, nor has a first one in which it is cut. */
export function parseFrame(bytes: Uint8Array): Parsed<Frame> {
  const ethernet = parseEthernet(bytes);
  if (!ethernet.ok) return ethernet;
  const head = { ethernet: ethernet.value.header };
  if (head.ethernet.etherType === ETHERTYPE.ipv4) {
    const ip = parseIpv4(ethernet.value.payload);
    if (!ip.ok) return ip;
    const ipv4 = ip.value.header;
    if (ipv4.fragmentOffset > 0) return accept({ ...head, ipv4, payload: ip.value.payload });
    const whole = parseTransport({ ...head, ipv4 }, ipv4.protocol, ip.value.payload);
    if (!whole.ok && ipv4.moreFragments) return accept({ ...head, ipv4, payload: ip.value.payload });
    return whole;
  }
  if (head.ethernet.etherType === ETHERTYPE.ipv6) {
    const ip = parseIpv6(ethernet.value.payload);
    if (!ip.ok) return ip;
    const ipv6 = ip.value.header;
    return parseTransport({ ...head, ipv6 }, ipv6.nextHeader, ip.value.payload);
  }
  return accept({ ...head, payload: ethernet.value.payload });
}

function parseTransport(head: Omit<Frame, 'payload'>, protocol: number, bytes: Uint8Array): Parsed<Frame> {
  if (protocol === IP_PROTOCOL.tcp) {
    const tcp = parseTcp(bytes);
    return tcp.ok ? accept({ ...head, tcp: tcp.value.header, payload: tcp.value.payload }) : tcp;
  }
  if (protocol === IP_PROTOCOL.udp) {
    const udp = parseUdp(bytes);
    return udp.ok ? accept({ ...head, udp: udp.value.header, payload: udp.value.payload }) : udp;
  }
  if (protocol === IP_PROTOCOL.icmp || protocol === IP_PROTOCOL.icmpv6) {
    const icmp = parseIcmp(bytes);
    return icmp.ok ? accept({ ...head, icmp: icmp.value.header, payload: icmp.value.payload }) : icmp;
  }
  return accept({ ...head, payload: bytes });
}
