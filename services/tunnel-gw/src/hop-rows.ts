// SPDX-License-Identifier: Apache-2.0
// Hop rows: the outer header that goes in front of an inner packet, built once, so that the datapath copies it and fills in lengths.
// VXLAN as in RFC 7348 section 5; outer IPv4 with DF set and identification 0 (RFC 6864: atomic datagrams); outer UDP checksum 0 (RFC 7348
// section 5, for IPv6 RFC 6935 and RFC 6936).
import { abi } from '@detour/contracts';
import { isMappedV4 } from '@detour/core';
import type { Row } from './bank.js';
import { addressBytes, macBytes, u32Key } from './row-bytes.js';

/** How packets reach a tunnel's remote end. A null MAC means that it is not resolved yet: the row is there, with mtu 0. */
export interface HopWay {
  readonly ifindex: number;
  readonly sourceMac: string;
  readonly nextHopMac: string | null;
  readonly linkMtu: number;
  readonly innerSourceMac: string;
  readonly innerPeerMac: string | null;
}

const ETHERNET = 14;
const VXLAN_PORT = 4789;

/** The row of a VXLAN tunnel with inner Ethernet. */
export function hopRow(
  number: number,
  node: number,
  local: string,
  end: { remote: string; vni: number },
  way: HopWay,
): Row {
  const src = addressBytes(local);
  const dst = addressBytes(end.remote);
  const v6 = !isMappedV4(dst);
  const ipBytes = v6 ? 40 : 20;
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  const view = new DataView(header.buffer);
  header.set(macBytes(way.nextHopMac ?? '00:00:00:00:00:00'), 0);
  header.set(macBytes(way.sourceMac), 6);
  view.setUint16(12, v6 ? 0x86dd : 0x0800);
  if (v6) writeIpv6(view, header, src, dst);
  else writeIpv4(view, header, src, dst);
  const udp = ETHERNET + ipBytes;
  view.setUint16(udp + 2, VXLAN_PORT);
  view.setUint8(udp + 8, 0x08); // the I flag
  view.setUint32(udp + 12, end.vni * 256);
  const inner = udp + 16;
  header.set(macBytes(way.innerPeerMac ?? 'ff:ff:ff:ff:ff:ff'), inner);
  header.set(macBytes(way.innerSourceMac), inner + 6);
  const ready = way.nextHopMac !== null && (node === 0 || way.innerPeerMac !== null);
  const value = abi.hop.encode({
    ifindex: way.ifindex,
    node,
    mtu: ready ? way.linkMtu - ipBytes - 16 - ETHERNET : 0,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: abi.TunnelProto.TUNNEL_VXLAN,
    headerLen: inner + ETHERNET,
    outerL3: ETHERNET,
    outerIp6: v6 ? 1 : 0,
    innerL3: 0,
    outerCsum: v6 ? 0 : sumWords(header, ETHERNET, 20),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    header,
  });
  return {
    table: 'hops',
    id: number,
    key: (bank) => u32Key(bank * abi.DetourLimit.DT_MAX_HOPS + number),
    value,
  };
}

const IP_UDP = 17;
const TTL = 64;

function writeIpv4(view: DataView, header: Uint8Array, src: Uint8Array, dst: Uint8Array): void {
  view.setUint8(14, 0x45);
  view.setUint16(20, 0x4000); // DF
  view.setUint8(22, TTL);
  view.setUint8(23, IP_UDP);
  header.set(src.subarray(12), 26);
  header.set(dst.subarray(12), 30);
}

function writeIpv6(view: DataView, header: Uint8Array, src: Uint8Array, dst: Uint8Array): void {
  view.setUint8(14, 0x60);
  view.setUint8(20, IP_UDP);
  view.setUint8(21, TTL);
  header.set(src, 22);
  header.set(dst, 38);
}

/** One's complement sum of 16-bit words as they lie in memory (RFC 1071: byte order does not matter), folded, not inverted. */
function sumWords(bytes: Uint8Array, from: number, length: number): number {
  let sum = 0;
  for (let i = from; i < from + length; i += 2) sum += (bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
