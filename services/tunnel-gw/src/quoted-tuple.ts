// SPDX-License-Identifier: Apache-2.0
// The tuple of a packet of which only the beginning is there, as an ICMP error quotes it; read as datapath/lib/parse.h does.
import type { Tuple } from '@detour/core';
import { ICMP, ICMPV6, IP_PROTOCOL, ipToKeyBytes, ipv4FromBytes, ipv6FromBytes, viewOf } from '@detour/wire';

/** Null where the flow cannot be read from it: a later fragment, or less than 8 bytes behind the IP header. */
export function quotedTuple(packet: Uint8Array, vrf: number): Tuple | null {
  const v6 = (packet[0] ?? 0) >>> 4 === 6;
  const at = v6 ? 40 : ((packet[0] ?? 0) & 15) * 4;
  if (at < 20 || packet.length < at + 8) return null;
  const view = viewOf(packet);
  if (!v6 && (view.getUint16(6) & 0x1fff) !== 0) return null;
  const proto = view.getUint8(v6 ? 6 : 9);
  const [src, dst] = v6
    ? [ipv6FromBytes(packet.subarray(8, 24)), ipv6FromBytes(packet.subarray(24, 40))]
    : [ipv4FromBytes(packet.subarray(12, 16)), ipv4FromBytes(packet.subarray(16, 20))];
  const ends = { vrf, proto, src: ipToKeyBytes(src), dst: ipToKeyBytes(dst) };
  if (proto === IP_PROTOCOL.tcp || proto === IP_PROTOCOL.udp)
    return { ...ends, sport: view.getUint16(at), dport: view.getUint16(at + 2) };
  const type = view.getUint8(at);
  const echo = v6
    ? proto === IP_PROTOCOL.icmpv6 && (type === ICMPV6.echo || type === ICMPV6.echoReply)
    : proto === IP_PROTOCOL.icmp && (type === ICMP.echo || type === ICMP.echoReply);
  const id = echo ? view.getUint16(at + 4) : 0;
  return { ...ends, sport: id, dport: id };
}
