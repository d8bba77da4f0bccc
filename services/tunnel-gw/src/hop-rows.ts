// SPDX-License-Identifier: Apache-2.0
// Hop rows: the outer header that goes in front of an inner packet, built once, so that the datapath copies it and fills in lengths.
// VXLAN as in RFC 7348 section 5, Geneve as in RFC 8926 section 3, GRE as in RFC 2784 and RFC 2890; outer IPv4 with DF set and identification 0
// (RFC 6864: atomic datagrams); outer UDP checksum 0 (for IPv6 RFC 6935 and RFC 6936) unless the datapath is asked to fill one in.
import { abi } from '@detour/contracts';
import { isMappedV4 } from '@detour/core';
import type { Row } from './bank.js';
import type { TunnelModel } from './model.js';
import { addressBytes, macBytes, u32Key } from './row-bytes.js';
import { ETHERNET, overheadBytes, tunnelHeader, tunnelProto } from './tunnel-kind.js';

/** How packets reach a tunnel's remote end. A null MAC means that it is not resolved yet: the row is there, with mtu 0. */
export interface HopWay {
  readonly ifindex: number;
  readonly sourceMac: string;
  readonly nextHopMac: string | null;
  readonly linkMtu: number;
  readonly innerSourceMac: string;
  readonly innerPeerMac: string | null;
}

/** The row of a tunnel; `node` 0: it carries what the kernel sends into the VTI, and needs no inner peer. */
export function hopRow(number: number, node: number, local: string, tunnel: TunnelModel, way: HopWay): Row {
  const src = addressBytes(local);
  const dst = addressBytes(tunnel.remote);
  const v6 = !isMappedV4(dst);
  const { ipProtocol, bytes, typeAt, flow } = tunnelHeader(tunnel);
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  const view = new DataView(header.buffer);
  header.set(macBytes(way.nextHopMac ?? '00:00:00:00:00:00'), 0);
  header.set(macBytes(way.sourceMac), 6);
  view.setUint16(12, v6 ? 0x86dd : 0x0800);
  if (v6) writeIpv6(view, header, { src, dst, ipProtocol });
  else writeIpv4(view, header, { src, dst, ipProtocol });
  const at = ETHERNET + (v6 ? 40 : 20);
  header.set(bytes, at);
  const inner = at + bytes.length;
  if (!tunnel.l3) {
    header.set(macBytes(way.innerPeerMac ?? 'ff:ff:ff:ff:ff:ff'), inner);
    header.set(macBytes(way.innerSourceMac), inner + 6);
  }
  const headerLen = inner + (tunnel.l3 ? 0 : ETHERNET);
  const ready = way.nextHopMac !== null && (node === 0 || tunnel.l3 || way.innerPeerMac !== null);
  const value = abi.hop.encode({
    ifindex: way.ifindex,
    node,
    mtu: ready ? Math.max(0, way.linkMtu - overheadBytes(tunnel)) : 0,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: tunnelProto(tunnel),
    headerLen,
    outerL3: ETHERNET,
    outerIp6: v6 ? 1 : 0,
    innerL3: tunnel.l3 ? 1 : 0,
    outerCsum: v6 ? 0 : sumWords(header, ETHERNET, 20),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    flags: (tunnel.checksum ? abi.HopFlag.HOP_CHECKSUM : 0) | (flow?.flag ?? 0),
    typeAt: tunnel.l3 ? at + typeAt : headerLen - 2,
    patchAt: flow === undefined ? 0 : at + flow.at,
    header,
  });
  return {
    table: 'hops',
    id: number,
    key: (bank) => u32Key(bank * abi.DetourLimit.DT_MAX_HOPS + number),
    value,
  };
}

interface OuterIp {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly ipProtocol: number;
}

const TTL = 64;

function writeIpv4(view: DataView, header: Uint8Array, { src, dst, ipProtocol }: OuterIp): void {
  view.setUint8(14, 0x45);
  view.setUint16(20, 0x4000); // DF
  view.setUint8(22, TTL);
  view.setUint8(23, ipProtocol);
  header.set(src.subarray(12), 26);
  header.set(dst.subarray(12), 30);
}

function writeIpv6(view: DataView, header: Uint8Array, { src, dst, ipProtocol }: OuterIp): void {
  view.setUint8(14, 0x60);
  view.setUint8(20, ipProtocol);
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
