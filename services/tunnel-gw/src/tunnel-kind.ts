// SPDX-License-Identifier: Apache-2.0
// What differs between kinds of tunnels: what stands in front of an inner packet, how long that is, and what people call it.
import { abi } from '@detour/contracts';
import type { TunnelModel } from './model.js';
import { addressBytes } from './row-bytes.js';

/** Where the datapath looks for each (RFC 7348 4, RFC 8926 3.3). */
export const UDP_PORTS = { vxlan: 4789, geneve: 6081 } as const;

export const ETHERNET = 14;
/** EtherTypes as the headers of Geneve and GRE name what is inside. */
const TYPE_ETHERNET = 0x6558;
const TYPE_IPV4 = 0x0800;

/** What stands between the outer IP header and the inner packet, as in a hop row: lengths, checksums and what depends on the packet are 0. */
export interface TunnelHeader {
  readonly ipProtocol: 17 | 47;
  readonly bytes: Uint8Array;
  /** Offset in `bytes` of the EtherType of an IP packet inside. */
  readonly typeAt: number;
  /** Offset in `bytes` of what depends on the flow, and which it is; absent where nothing does. */
  readonly flow?: { readonly at: number; readonly flag: number };
}

export function tunnelHeader(tunnel: TunnelModel): TunnelHeader {
  return tunnel.protocol === 'gre' ? greHeader(tunnel) : udpHeader(tunnel, tunnel.protocol);
}

function udpHeader(tunnel: TunnelModel, protocol: 'vxlan' | 'geneve'): TunnelHeader {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(2, UDP_PORTS[protocol]);
  if (protocol === 'vxlan')
    view.setUint8(8, 0x08); // the I flag
  else view.setUint16(10, tunnel.l3 ? TYPE_IPV4 : TYPE_ETHERNET);
  view.setUint32(12, (tunnel.tag ?? 0) * 256);
  if (tunnel.gwlb === undefined && tunnel.metadata === undefined)
    return { ipProtocol: 17, bytes, typeAt: 10 };
  const options = tunnel.gwlb === undefined ? pathOption(tunnel.metadata) : gwlbOptions(tunnel.gwlb);
  view.setUint8(8, options.length / 4);
  if (tunnel.gwlb === undefined) view.setUint8(9, CRITICAL_PRESENT);
  const flow =
    tunnel.gwlb === undefined
      ? { at: bytes.length, flag: abi.HopFlag.HOP_PATH }
      : { at: bytes.length + options.length - 4, flag: abi.HopFlag.HOP_COOKIE };
  return { ipProtocol: 17, bytes: Uint8Array.from([...bytes, ...options]), typeAt: 10, flow };
}

/** The C bit: one of the options is critical (RFC 8926 3.4). */
const CRITICAL_PRESENT = 0x40;

/** Our option (struct geneve_path in abi.h) with what is the same for all flows; the datapath fills in the rest. */
function pathOption(metadata: TunnelModel['metadata']): Uint8Array {
  const { GeneveOption: option } = abi;
  return abi.genevePath.encode({
    class: option.GENEVE_CLASS_PATH,
    type: option.GENEVE_TYPE_PATH,
    len: abi.genevePath.size / 4 - 1,
    version: option.GENEVE_PATH_VERSION,
    flags: 0,
    sidx: 0,
    budget: option.GENEVE_HOP_BUDGET,
    path: 0,
    chain: 0,
    action: 0,
    scope: 0,
    tenant: metadata?.tenant ?? 0,
    source: metadata === undefined ? new Uint8Array(16) : addressBytes(metadata.source),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    cookie: 0,
  });
}

/** The three options that appliances of a gateway load balancer expect, all of them, none critical; the cookie comes last. */
function gwlbOptions({ endpoint, attachment }: { endpoint: number; attachment: number }): Uint8Array {
  const { GeneveOption: option } = abi;
  const bytes = new Uint8Array(12 + 12 + 8);
  const view = new DataView(bytes.buffer);
  const head = (at: number, type: number, words: number) => {
    view.setUint16(at, option.GENEVE_CLASS_GWLB);
    view.setUint8(at + 2, type);
    view.setUint8(at + 3, words);
  };
  head(0, option.GENEVE_GWLB_ENDPOINT, 2);
  view.setBigUint64(4, BigInt(endpoint));
  head(12, option.GENEVE_GWLB_ATTACHMENT, 2);
  view.setBigUint64(16, BigInt(attachment));
  head(24, option.GENEVE_GWLB_COOKIE, 1);
  return bytes;
}

function greHeader({ tag, l3, checksum }: TunnelModel): TunnelHeader {
  const keyAt = checksum ? 8 : 4;
  const bytes = new Uint8Array(keyAt + (tag === null ? 0 : 4));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, (checksum ? 0x8000 : 0) | (tag === null ? 0 : 0x2000));
  view.setUint16(2, l3 ? TYPE_IPV4 : TYPE_ETHERNET);
  if (tag !== null) view.setUint32(keyAt, tag);
  return { ipProtocol: 47, bytes, typeAt: 2 };
}

/** Bytes that a tunnel puts in front of an inner IP packet, its own Ethernet header not counted: what the underlay's MTU must leave room for. */
export function overheadBytes(tunnel: TunnelModel): number {
  const outer = tunnel.remote.includes(':') ? 40 : 20;
  return outer + tunnelHeader(tunnel).bytes.length + (tunnel.l3 ? 0 : ETHERNET);
}

export function tunnelProto(tunnel: TunnelModel): abi.TunnelProto {
  const { TunnelProto: proto } = abi;
  switch (tunnel.protocol) {
    case 'vxlan':
      return proto.TUNNEL_VXLAN;
    case 'geneve':
      return proto.TUNNEL_GENEVE;
    case 'gre':
      return tunnel.tag === null ? proto.TUNNEL_GRE_PLAIN : proto.TUNNEL_GRE;
  }
}

const NAMES = { vxlan: 'VXLAN', geneve: 'Geneve', gre: 'GRE' } as const;

/** As in `VXLAN to 192.0.2.11, VNI 4001`. */
export function describeTunnel({ protocol, remote, tag, gwlb }: TunnelModel): string {
  if (gwlb !== undefined)
    return `gwlb to ${remote}, endpoint ${gwlb.endpoint}, attachment ${gwlb.attachment}`;
  const which = protocol === 'gre' ? (tag === null ? 'no key' : `key ${tag}`) : `VNI ${tag}`;
  return `${NAMES[protocol]} to ${remote}, ${which}`;
}
