// SPDX-License-Identifier: Apache-2.0
// More tables for the gateway of the lane `steer`: paths through 1, 2, 4 and 8 nodes, and a node of each kind of attach. Nodes behind tunnels are the reflector, told apart by VNI or key.
import type { BpfObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { buildEthernet, buildIpv4, buildUdp, ipToKeyBytes, macToBytes, onesSum } from '@detour/wire';
import { type PutRow, putArmedNode } from './armed-nodes.js';
import { ARMED_KINDS } from './arms.js';
import { type Devices, publishPath, tunnelFields, u32, VRF } from './edge-tables.js';
import { INNER_MAC, OUTER_REFLECTOR, UNDERLAY, UNDERLAY_MAC } from './lanes.js';

/** Where flows of a curve's point come from, and the number of the path on which they are. */
export interface Steered {
  readonly number: number;
  readonly base: number;
}

export const HOPS = [1, 2, 4, 8] as const;
const TUNNEL_KINDS = ['vxlan', 'geneve', 'gre', 'gwlb'] as const;
type TunnelKind = (typeof TUNNEL_KINDS)[number];
export const KINDS = [...TUNNEL_KINDS, ...ARMED_KINDS] as const;
type Kind = (typeof KINDS)[number];
export const FIRST_HOP_NODE = 11;
const FIRST_KIND_NODE = 31;

export const hopsPath = (hops: number): Steered => ({ number: 20 + hops, base: 0x0a03_0001 + (hops << 12) });
export const kindPath = (kind: Kind): Steered => {
  const at = KINDS.indexOf(kind);
  return { number: FIRST_KIND_NODE + at, base: 0x0a04_0001 + (at << 12) };
};

/** Rows of all nodes and paths of the curves, in bank 0. */
export function publishStations(edge: BpfObject, devices: Devices): void {
  const device = devices.get(OUTER_REFLECTOR.device) ?? 0;
  const most = Math.max(...HOPS);
  for (let i = 0; i < most; i++) putNode(edge, device, FIRST_HOP_NODE + i, 'vxlan');
  for (const kind of TUNNEL_KINDS) putNode(edge, device, kindPath(kind).number, kind);
  const put: PutRow = (map, key, value) => edge.map(map).update(key, value);
  for (const kind of ARMED_KINDS)
    putArmedNode(put, devices, { number: kindPath(kind).number, vrf: VRF, kind, vlan: 0 });
  for (const hops of HOPS)
    publishPath(
      edge,
      hopsPath(hops).number,
      Array.from({ length: hops }, (_, i) => FIRST_HOP_NODE + i),
    );
  for (const kind of KINDS) publishPath(edge, kindPath(kind).number, [kindPath(kind).number]);
}

interface Shape {
  readonly proto: abi.TunnelProto;
  readonly outer: 17 | 47;
  /** Behind the outer IP header and a UDP header: what stands in front of what is inside. */
  readonly header: Uint8Array;
  readonly l3: boolean;
  readonly cookieAt?: number;
}

const UDP_PORT = { vxlan: 4789, geneve: 6081, gwlb: 6081 } as const;

/** As in RFC 7348 5, RFC 8926 3.4, RFC 2890; gwlb with its three options. */
function shapeOf(kind: TunnelKind, tag: number): Shape {
  const { TunnelProto: proto, GeneveOption: option } = abi;
  const header = new Uint8Array(kind === 'gwlb' ? 8 + 32 : 8);
  const view = new DataView(header.buffer);
  switch (kind) {
    case 'vxlan':
      view.setUint8(0, 8);
      view.setUint32(4, tag << 8);
      return { proto: proto.TUNNEL_VXLAN, outer: 17, header, l3: false };
    case 'geneve':
      view.setUint16(2, 0x6558);
      view.setUint32(4, tag << 8);
      return { proto: proto.TUNNEL_GENEVE, outer: 17, header, l3: false };
    case 'gre':
      view.setUint32(0, 0x2000_6558);
      view.setUint32(4, tag);
      return { proto: proto.TUNNEL_GRE, outer: 47, header, l3: false };
    case 'gwlb': {
      view.setUint8(0, 8); // words of options
      view.setUint16(2, 0x0800);
      const head = (at: number, type: number, words: number): void => {
        view.setUint16(at, option.GENEVE_CLASS_GWLB);
        view.setUint8(at + 2, type);
        view.setUint8(at + 3, words);
      };
      head(8, option.GENEVE_GWLB_ENDPOINT, 2);
      head(20, option.GENEVE_GWLB_ATTACHMENT, 2);
      head(32, option.GENEVE_GWLB_COOKIE, 1);
      return { proto: proto.TUNNEL_GENEVE, outer: 17, header, l3: true, cookieAt: 36 };
    }
  }
}

function putNode(edge: BpfObject, ifindex: number, node: number, kind: TunnelKind): void {
  const tag = kind === 'gwlb' ? 0 : 5_000 + node;
  const shape = shapeOf(kind, tag);
  const cookie = shape.cookieAt === undefined ? 0 : abi.TunnelFlag.TUNNEL_COOKIE;
  const row = abi.tunnel.encode({ ...tunnelFields(node), innerL3: shape.l3 ? 1 : 0, flags: cookie });
  const [src, dst] = [ipToKeyBytes(OUTER_REFLECTOR.address), ipToKeyBytes(UNDERLAY)];
  edge.map('tunnels').update(abi.tunnelKey.encode({ src, dst, vni: tag, proto: shape.proto, bank: 0 }), row);
  edge.map('node_tunnels').update(u32(node), row);
  edge.map('hops').update(u32(node), hopRow(shape, { ifindex, node, kind }));
}

function hopRow(shape: Shape, at: { ifindex: number; node: number; kind: TunnelKind }): Uint8Array {
  const ends = { src: UNDERLAY, dst: OUTER_REFLECTOR.address };
  const inner = shape.l3
    ? new Uint8Array(0)
    : Uint8Array.from([...macToBytes(OUTER_REFLECTOR.innerMac), ...macToBytes(INNER_MAC), 8, 0]);
  const body = Uint8Array.from([...shape.header, ...inner]);
  const payload = at.kind === 'gre' ? body : buildUdp({ srcPort: 0, dstPort: UDP_PORT[at.kind] }, body);
  const macs = { dst: OUTER_REFLECTOR.mac, src: UNDERLAY_MAC, etherType: 0x0800 };
  const bytes = buildEthernet(macs, buildIpv4({ ...ends, protocol: shape.outer }, payload));
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  header.set(bytes);
  const ip = header.subarray(14, 34);
  ip.fill(0, 2, 4); // total length
  ip.fill(0, 10, 12); // checksum
  if (at.kind !== 'gre') header.fill(0, 38, 42); // UDP length and checksum
  const sum = onesSum(ip);
  const behindIp = at.kind === 'gre' ? 34 : 42;
  return abi.hop.encode({
    ifindex: at.ifindex,
    node: at.node,
    mtu: 1500,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: shape.proto,
    headerLen: bytes.length,
    outerL3: 14,
    outerIp6: 0,
    innerL3: shape.l3 ? 1 : 0,
    outerCsum: ((sum & 0xff) << 8) | (sum >>> 8),
    dmac: macToBytes(OUTER_REFLECTOR.mac),
    smac: macToBytes(UNDERLAY_MAC),
    flags: shape.cookieAt === undefined ? 0 : abi.HopFlag.HOP_COOKIE,
    typeAt: shape.l3 ? behindIp + 2 : bytes.length - 2,
    patchAt: shape.cookieAt === undefined ? 0 : behindIp + shape.cookieAt,
    header,
  });
}
