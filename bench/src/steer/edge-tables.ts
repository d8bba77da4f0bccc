// SPDX-License-Identifier: Apache-2.0
// The gateway's tables as tunnel-gw would publish them for one VRF, two nodes and a path to each.
import { type BpfObject, mapArray } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { copyLines, type RuleImage } from '@detour/tables';
import {
  buildEthernet,
  buildIpv4,
  buildUdp,
  buildVxlan,
  ipToKeyBytes,
  macToBytes,
  onesSum,
} from '@detour/wire';
import {
  FIREWALL,
  GATEWAY_MAC,
  INNER_MAC,
  type NodePlace,
  OUTSIDE_MAC,
  REFLECTOR,
  TABLE,
  UNDERLAY,
  underlayMac,
} from './lanes.js';

export const VRF = 1;
export const CHAIN = 1;
export const PORT = { inside: 1, outside: 2, underlay: 3 } as const;
const MTU = 1500;
const VXLAN_UDP_PORT = 4789;

/** ifindexes in the gateway's namespace, by device. */
export type Devices = ReadonlyMap<string, number>;

/** Fills bank 0 and makes it live. */
export function publishTables(edge: BpfObject, devices: Devices): void {
  const { PortKind: kind } = abi;
  const put = (map: string, key: Uint8Array, value: Uint8Array): void => edge.map(map).update(key, value);
  const device = (name: string): number => devices.get(name) ?? 0;
  const port = (name: string, fields: Partial<abi.Port>): void =>
    put(
      'ports',
      abi.portKey.encode({ ifindex: device(name), vlan: 0, inner: 0, bank: 0 }),
      abi.port.encode({ ...NO_PORT, ...fields }),
    );
  const vrf = { vrf: VRF, table: TABLE, flags: abi.PortFlag.PORT_CLASSIFY };
  port('in0', { ...vrf, number: PORT.inside, kind: kind.PORT_INTERNAL, mac: macToBytes(GATEWAY_MAC) });
  port('out0', { ...vrf, number: PORT.outside, kind: kind.PORT_UPLINK, mac: macToBytes(OUTSIDE_MAC) });
  port('ul0', { number: PORT.underlay, kind: kind.PORT_UNDERLAY });
  port('ul2', { number: PORT.underlay, kind: kind.PORT_UNDERLAY });
  port('ul1', { number: PORT.underlay, kind: kind.PORT_UNDERLAY });
  put('own', abi.ownKey.encode({ addr: ipToKeyBytes(UNDERLAY), vrf: 0, bank: 0 }), u32(1));
  for (const node of [REFLECTOR, FIREWALL]) {
    const row = abi.tunnel.encode(tunnelFields(node.number));
    put('tunnels', tunnelKey(node), row);
    put('node_tunnels', u32(node.number), row);
    put('hops', u32(node.number), hopRow(node, device(node.device)));
    publishPath(edge, node.number, [node.number]);
  }
  put('chains', u32(CHAIN), abi.chain.encode(CHAIN_ROW));
  using control = mapArray(edge.map('control'));
  const live = {
    bank: 0,
    live: 1,
    routeGen: 1,
    rulesGen: 1,
    hashKey: 1n,
    puntRate: 100_000_000,
    puntBurst: 1_000_000,
    flowsGen: 0,
    frontMask: edge.map('flow_front').maxEntries - 1,
    beginRate: 0,
    beginBurst: 0,
    askShare: 0,
    rulesHalf: Uint32Array.of(0, 0),
    rulesLines: edge.map('rules').maxEntries >>> 1,
  };
  abi.control.write(live, control.element(0));
}

/** Lets the datapath decide flows by these rules, or has it ask about all of them. Every flow goes to the reflecting node. */
export function decideInKernel(edge: BpfObject, image: RuleImage | null): void {
  const put = (map: string, key: Uint8Array, value: Uint8Array): void => edge.map(map).update(key, value);
  if (image !== null) {
    using rules = mapArray(edge.map('rules'));
    copyLines(image.changes(0), new Uint32Array(rules.bytes.buffer, rules.bytes.byteOffset), 0);
    const path = new Uint16Array(abi.DetourLimit.DT_MAX_SLOTS).fill(REFLECTOR.number);
    put('selections', u32(CHAIN), abi.selection.encode({ path }));
    const decides = abi.ChainDecides.DECIDES_ANY;
    put('chains', u32(CHAIN), abi.chain.encode({ ...CHAIN_ROW, decides, nslots: SLOTS }));
  }
  using control = mapArray(edge.map('control'));
  const row = abi.control.decode(control.element(0));
  const half = image === null ? 0 : 1;
  const change = { beginRate: 4e9, beginBurst: 1_000_000, rulesHalf: Uint32Array.of(half, half) };
  abi.control.write({ ...row, ...change }, control.element(0));
}
const SLOTS = 101;

export const CHAIN_ROW: abi.Chain = {
  gen: 1,
  onFailure: abi.OnFailure.ON_FAILURE_DROP,
  onNodeDown: abi.OnNodeDown.ON_NODE_DOWN_REBALANCE,
  mss: abi.MssClamp.MSS_KEEP,
  onRuleChange: abi.OnRuleChange.ON_RULE_CHANGE_REVALIDATE,
  affinity: abi.Affinity.AFFINITY_5_TUPLE,
  valid: 1,
  decides: abi.ChainDecides.DECIDES_NONE,
  nslots: 0,
  backup: 0,
};

const NO_PORT: abi.Port = {
  number: 0,
  vrf: 0,
  table: 0,
  kind: 0,
  flags: 0,
  hop: 0,
  vtiIfindex: 0,
  mac: new Uint8Array(6),
  node: 0,
};

function tunnelKey(node: NodePlace): Uint8Array {
  const proto = abi.TunnelProto.TUNNEL_VXLAN;
  const [src, dst] = [ipToKeyBytes(node.address), ipToKeyBytes(UNDERLAY)];
  return abi.tunnelKey.encode({ src, dst, vni: node.vni, proto, bank: 0 });
}

/** Of the row of a node's tunnel with Ethernet inside. */
export function tunnelFields(node: number): abi.Tunnel {
  return {
    kind: abi.TunnelKind.TUNNEL_TO_NODE,
    strictReturn: 1,
    node,
    vrf: VRF,
    port: 0,
    table: TABLE,
    deliverIfindex: 0,
    innerMac: macToBytes(INNER_MAC),
    innerL3: 0,
    flags: 0,
  };
}

/** A path of the one chain through these nodes, in bank 0. */
export function publishPath(edge: BpfObject, number: number, nodes: readonly number[]): void {
  const { DT_MAX_PATH_HOPS: most } = abi.DetourLimit;
  const hop = new Uint16Array(2 * most);
  const node = new Uint16Array(most);
  node.set(nodes);
  hop.set(nodes);
  hop.set([...nodes].reverse(), most);
  const path = { chain: CHAIN, state: abi.PathState.PATH_UP, nhops: nodes.length, node, hop, heir: 0 };
  edge.map('paths').update(u32(number), abi.path.encode(path));
}

/** The outer header of an empty packet, with lengths and checksum taken out: what is filled in per packet. */
function hopRow(node: NodePlace, ifindex: number): Uint8Array {
  const inner = new Uint8Array([...macToBytes(node.innerMac), ...macToBytes(INNER_MAC), 8, 0]);
  const udp = buildUdp({ srcPort: 0, dstPort: VXLAN_UDP_PORT }, buildVxlan({ vni: node.vni }, inner));
  const packet = buildIpv4({ src: UNDERLAY, dst: node.address, protocol: 17 }, udp);
  const macs = { dst: node.mac, src: underlayMac(node), etherType: 0x0800 };
  const bytes = buildEthernet(macs, packet);
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  header.set(bytes);
  const ip = header.subarray(14, 34);
  ip.fill(0, 2, 4); // total length
  ip.fill(0, 10, 12); // checksum
  header.fill(0, 38, 42); // UDP length and checksum
  const sum = onesSum(ip);
  return abi.hop.encode({
    ifindex,
    node: node.number,
    mtu: MTU,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: abi.TunnelProto.TUNNEL_VXLAN,
    headerLen: bytes.length,
    outerL3: 14,
    outerIp6: 0,
    innerL3: 0,
    outerCsum: ((sum & 0xff) << 8) | (sum >>> 8),
    dmac: macToBytes(node.mac),
    smac: macToBytes(underlayMac(node)),
    flags: 0,
    typeAt: bytes.length - 2,
    patchAt: 0,
    header,
  });
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
