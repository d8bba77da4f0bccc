// SPDX-License-Identifier: Apache-2.0
// The tables of the tests: one VRF, ports, three nodes behind VXLAN, a branch VTI, chains, and flows recorded by hand.
import { abi } from '@detour/contracts';
import { normaliseTuple, type Tuple } from '@detour/core';
import {
  buildEthernet,
  buildFrame,
  buildIpv4,
  buildIpv6,
  buildUdp,
  buildVxlan,
  concatBytes,
  type FrameFields,
  ipToKeyBytes,
  macToBytes,
  onesSum,
} from '@detour/wire';
import { CLIENT, macOf, SERVER, TABLE } from './network.js';
import { type Rig, u32 } from './rig.js';

export const VRF = 7;
export const PORT = { inside: 1, outside: 2, branch: 3, plain: 4, inject: 9, underlay: 10 } as const;
export const UNDERLAY = { ip4: '192.0.2.1', ip6: '2001:db8:ff::1', peerMac: '02:00:00:00:03:01' } as const;
export const OWN = { ip4: '10.1.0.1', ip6: '2001:db8:1::1' } as const;
export const MTU = 1450;

export interface RemoteEnd {
  readonly remote: string;
  readonly local: string;
  readonly vni: number;
  readonly innerDst: string;
  readonly innerSrc: string;
}

function end(remote: string, vni: number, tail: string): RemoteEnd {
  const local = remote.includes(':') ? UNDERLAY.ip6 : UNDERLAY.ip4;
  return { remote, local, vni, innerDst: `02:00:00:00:04:${tail}`, innerSrc: `02:00:00:00:05:${tail}` };
}

/** Node numbers are hop numbers too. Node 3 is reached over IPv6. */
export const NODES = {
  1: end('192.0.2.11', 4001, '01'),
  2: end('192.0.2.12', 4001, '02'),
  3: end('2001:db8:ff::13', 4003, '03'),
} as const;
export type NodeNumber = keyof typeof NODES;
export const BRANCH_END = end('203.0.113.70', 70, '70');
export const BRANCH_HOP = 70;

/** 1: nodes 1 and 2. 2: two hops, 1 then 2. 3: IPv6 underlay. 4: backs up chain 5. 5: backup 4. 6: bypass. */
export const CHAIN = { two: 1, pair: 2, six: 3, reserve: 4, backed: 5, open: 6 } as const;
export const PATH = { one: 1, two: 2, pair: 3, six: 4, reserve: 5, backed: 6, open: 7 } as const;

/** The outer frame of an inner one, as the hop rows say it. */
export function outerFrame(to: RemoteEnd, inner: Uint8Array, entropy: number, ecn = 0): Uint8Array {
  return tunnelFrame(
    { src: to.local, dst: to.remote, srcMac: macOf('underlay'), dstMac: UNDERLAY.peerMac },
    to.vni,
    inner,
    entropy,
    ecn,
  );
}

/** What a node (or branch) sends to us. */
export function fromRemote(from: RemoteEnd, inner: Uint8Array, ecn = 0): Uint8Array {
  return tunnelFrame(
    { src: from.remote, dst: from.local, srcMac: UNDERLAY.peerMac, dstMac: macOf('underlay') },
    from.vni,
    inner,
    50_000,
    ecn,
  );
}

function tunnelFrame(
  ends: { src: string; dst: string; srcMac: string; dstMac: string },
  vni: number,
  inner: Uint8Array,
  srcPort: number,
  ecn: number,
): Uint8Array {
  const udp = buildUdp({ srcPort, dstPort: 4789 }, buildVxlan({ vni }, inner));
  const v6 = ends.src.includes(':');
  const packet = v6
    ? buildIpv6({ src: ends.src, dst: ends.dst, nextHeader: 17, trafficClass: ecn }, udp)
    : buildIpv4({ src: ends.src, dst: ends.dst, protocol: 17, tos: ecn }, udp);
  return buildEthernet({ dst: ends.dstMac, src: ends.srcMac, etherType: v6 ? 0x86dd : 0x0800 }, packet);
}

export function hopValue(rig: Rig, to: RemoteEnd, node: number, mtu = MTU): Uint8Array {
  const v6 = to.remote.includes(':');
  const inner = concatBytes(macToBytes(to.innerDst), macToBytes(to.innerSrc), Uint8Array.of(8, 0));
  const bytes = outerFrame(to, inner, 0);
  const header = new Uint8Array(abi.DetourLimit.DT_MAX_HEADER);
  header.set(bytes);
  const l3 = header.subarray(14);
  l3.fill(0, v6 ? 4 : 2, v6 ? 6 : 4);
  if (!v6) l3.fill(0, 10, 12);
  header.fill(0, v6 ? 14 + 44 : 14 + 24, v6 ? 14 + 46 : 14 + 26);
  const sum = onesSum(l3.subarray(0, 20));
  return abi.hop.encode({
    ifindex: rig.ifindex.underlay,
    node,
    mtu,
    kind: abi.HopKind.HOP_TUNNEL,
    tunnel: abi.TunnelProto.TUNNEL_VXLAN,
    headerLen: bytes.length,
    outerL3: 14,
    outerIp6: v6 ? 1 : 0,
    innerL3: 0,
    outerCsum: v6 ? 0 : ((sum & 0xff) << 8) | (sum >>> 8),
    dmac: new Uint8Array(6),
    smac: new Uint8Array(6),
    header,
  });
}

/** Every row that a published revision has, into one bank. */
export function publish(rig: Rig, bank: 0 | 1): void {
  const at = (max: number, row: number): number => bank * max + row;
  const { DetourLimit: limit, PortKind: kind } = abi;
  const port = (device: keyof Rig['ifindex'], fields: Partial<abi.Port>): void => {
    const value = abi.port.encode({ ...PORT_BASE, ...fields });
    rig.put('ports', abi.portKey.encode({ ifindex: rig.ifindex[device], vlan: 0, bank }), value);
    if (fields.number !== undefined) rig.put('port_numbers', at(limit.DT_MAX_PORTS, fields.number), value);
  };
  const vrf = { vrf: VRF, table: TABLE };
  const classify = abi.PortFlag.PORT_CLASSIFY;
  port('inside', {
    ...vrf,
    number: PORT.inside,
    kind: kind.PORT_INTERNAL,
    flags: classify,
    mac: macToBytes(macOf('inside')),
  });
  port('outside', {
    ...vrf,
    number: PORT.outside,
    kind: kind.PORT_UPLINK,
    flags: classify,
    mac: macToBytes(macOf('outside')),
  });
  port('underlay', { number: PORT.underlay, kind: kind.PORT_UNDERLAY });
  port('inject', { number: PORT.inject, kind: kind.PORT_INJECT });
  port('vtiInner', { ...vrf, kind: kind.PORT_VTI_INNER, hop: BRANCH_HOP });
  const branchPort = {
    ...PORT_BASE,
    ...vrf,
    number: PORT.branch,
    kind: kind.PORT_VTI,
    flags: classify,
    vtiIfindex: rig.ifindex.vtiInner,
  };
  rig.put('port_numbers', at(limit.DT_MAX_PORTS, PORT.branch), abi.port.encode(branchPort));
  for (const [number, node] of Object.entries(NODES)) {
    const row = tunnelValue(rig, {
      kind: abi.TunnelKind.TUNNEL_TO_NODE,
      node: Number(number),
      strictReturn: 1,
    });
    rig.put('tunnels', tunnelKey(node, bank), row);
    rig.put('node_tunnels', at(limit.DT_MAX_NODES, Number(number)), row);
    rig.put('hops', at(limit.DT_MAX_HOPS, Number(number)), hopValue(rig, node, Number(number)));
  }
  rig.put(
    'tunnels',
    tunnelKey(BRANCH_END, bank),
    tunnelValue(rig, { kind: abi.TunnelKind.TUNNEL_TO_VTI, port: PORT.branch, flags: classify }),
  );
  rig.put('hops', at(limit.DT_MAX_HOPS, BRANCH_HOP), hopValue(rig, BRANCH_END, 0));
  rig.put('egress', abi.egressKey.encode({ ifindex: rig.ifindex.vti, bank }), u32(BRANCH_HOP));
  for (const address of [UNDERLAY.ip4, UNDERLAY.ip6]) rig.put('own', ownKey(address, 0, bank), u32(1));
  for (const address of [OWN.ip4, OWN.ip6]) rig.put('own', ownKey(address, VRF, bank), u32(1));
  const { two, pair, six, reserve, backed, open } = CHAIN;
  putPath(rig, bank, PATH.one, { chain: two, nodes: [1] });
  putPath(rig, bank, PATH.two, { chain: two, nodes: [2] });
  putPath(rig, bank, PATH.pair, { chain: pair, nodes: [1, 2] });
  putPath(rig, bank, PATH.six, { chain: six, nodes: [3] });
  putPath(rig, bank, PATH.reserve, { chain: reserve, nodes: [2] });
  putPath(rig, bank, PATH.backed, { chain: backed, nodes: [1] });
  putPath(rig, bank, PATH.open, { chain: open, nodes: [1] });
  putChain(rig, bank, two, [PATH.one, PATH.two, PATH.one, PATH.two, PATH.one]);
  putChain(rig, bank, pair, [PATH.pair]);
  putChain(rig, bank, six, [PATH.six]);
  putChain(rig, bank, reserve, [PATH.reserve]);
  putChain(rig, bank, backed, [PATH.backed], { onFailure: abi.OnFailure.ON_FAILURE_BACKUP, backup: reserve });
  putChain(rig, bank, open, [PATH.open], { onFailure: abi.OnFailure.ON_FAILURE_BYPASS });
}

/** Both banks filled, bank 0 live. */
export function publishAll(rig: Rig): void {
  publish(rig, 0);
  publish(rig, 1);
  rig.control({
    bank: 0,
    live: 1,
    routeGen: 1,
    rulesGen: 1,
    hashKey: 0x0706050403020100n,
    puntRate: 1000,
    puntBurst: 1000,
  });
}

const PORT_BASE: abi.Port = {
  number: 0,
  vrf: 0,
  table: 0,
  kind: 0,
  flags: 0,
  hop: 0,
  vtiIfindex: 0,
  mac: new Uint8Array(6),
};

export function tunnelKey(from: RemoteEnd, bank: 0 | 1): Uint8Array {
  const proto = abi.TunnelProto.TUNNEL_VXLAN;
  return abi.tunnelKey.encode({
    src: ipToKeyBytes(from.remote),
    dst: ipToKeyBytes(from.local),
    vni: from.vni,
    proto,
    bank,
  });
}

export const VTI_MAC = '02:00:00:00:06:01';

export function tunnelValue(rig: Rig, fields: Partial<abi.Tunnel>): Uint8Array {
  return abi.tunnel.encode({
    kind: 0,
    strictReturn: 0,
    node: 0,
    vrf: VRF,
    port: 0,
    table: TABLE,
    deliverIfindex: rig.ifindex.vtiInner,
    innerMac: macToBytes(VTI_MAC),
    innerL3: 0,
    flags: 0,
    ...fields,
  });
}

export function ownKey(address: string, vrf: number, bank: 0 | 1): Uint8Array {
  return abi.ownKey.encode({ addr: ipToKeyBytes(address), vrf, bank });
}

/** Hop rows have their node's number; the reverse direction visits the nodes in reverse order. */
export function putPath(
  rig: Rig,
  bank: 0 | 1,
  number: number,
  fields: { chain: number; nodes: readonly number[]; state?: number },
): void {
  const node = new Uint16Array(8);
  const hop = new Uint16Array(16);
  node.set(fields.nodes);
  hop.set(fields.nodes);
  hop.set([...fields.nodes].reverse(), 8);
  const state = fields.state ?? abi.PathState.PATH_UP;
  const row = bank * abi.DetourLimit.DT_MAX_PATHS + number;
  rig.put(
    'paths',
    row,
    abi.path.encode({ chain: fields.chain, state, nhops: fields.nodes.length, node, hop }),
  );
}

/** The chain's row and its selection table; generation 1 unless told. */
export function putChain(
  rig: Rig,
  bank: 0 | 1,
  number: number,
  slots: readonly number[],
  fields: Partial<abi.Chain> = {},
): void {
  const row = bank * abi.DetourLimit.DT_MAX_CHAINS + number;
  const chain = {
    gen: 1,
    onFailure: 0,
    onNodeDown: 0,
    onRuleChange: 0,
    affinity: 0,
    valid: 1,
    nslots: slots.length,
    backup: 0,
  };
  const path = new Uint16Array(abi.DetourLimit.DT_MAX_SLOTS);
  path.set(slots);
  rig.put('selections', row, abi.selection.encode({ path }));
  rig.put('chains', row, abi.chain.encode({ ...chain, ...fields }));
}

/** Client to server, one frame; each call names what it wants otherwise. */
export function clientFrame(fields: Partial<FrameFields> = {}): Uint8Array {
  const v6 = fields.src?.includes(':') === true;
  return buildFrame({
    srcMac: CLIENT.mac,
    dstMac: macOf('inside'),
    src: v6 ? CLIENT.ip6 : CLIENT.ip4,
    dst: v6 ? SERVER.ip6 : SERVER.ip4,
    transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 },
    ...fields,
  });
}

export interface FlowFields {
  readonly src?: string;
  readonly dst?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly proto?: number;
  readonly action?: number;
  readonly flags?: number;
  readonly path?: number;
  readonly chain?: number;
  readonly gen?: number;
  readonly rule?: number;
  readonly slot?: number;
  readonly rulesGen?: number;
  readonly fwdPort?: number;
  readonly scope?: number;
  readonly map?: 'flows' | 'embryos';
}

export const ENTROPY = 51_234;

/** The key of the flow that `fields` describes, as the datapath normalises it, and which end point its initiator is. */
export function flowKey(fields: FlowFields): { key: Uint8Array; norm: 0 | 1 } {
  const tuple: Tuple = {
    vrf: VRF,
    src: ipToKeyBytes(fields.src ?? CLIENT.ip4),
    dst: ipToKeyBytes(fields.dst ?? SERVER.ip4),
    sport: fields.sport ?? 40_000,
    dport: fields.dport ?? 443,
    proto: fields.proto ?? 6,
  };
  const { key, norm } = normaliseTuple(tuple, fields.scope ?? 0);
  return { key: abi.flowKey.encode(key), norm };
}

export function flowWord(fields: FlowFields, norm: 0 | 1): bigint {
  const { FlowWord: word } = abi;
  return (
    BigInt(fields.path ?? 0) |
    (BigInt(norm) << BigInt(word.WORD_FWD_B_SHIFT)) |
    (BigInt(fields.action ?? abi.FlowAction.FLOW_STEER) << BigInt(word.WORD_ACTION_SHIFT)) |
    (BigInt(fields.flags ?? 0) << BigInt(word.WORD_FLAGS_SHIFT)) |
    (BigInt(fields.gen ?? 1) << BigInt(word.WORD_CHAIN_GEN_SHIFT))
  );
}

const NO_HOP: abi.Nexthop = {
  gen: 0,
  ifindex: 0,
  dmac: new Uint8Array(6),
  smac: new Uint8Array(6),
  mtu: 0,
  hop: 0,
};

/** Records a flow as tunnel-gw does. Default: established, steered along path 1 of chain 1, entered by the inside port. */
export function putFlow(rig: Rig, fields: FlowFields = {}): Uint8Array {
  const { key, norm } = flowKey(fields);
  const steer = (fields.action ?? abi.FlowAction.FLOW_STEER) === abi.FlowAction.FLOW_STEER;
  const defaults = steer ? { path: PATH.one, chain: CHAIN.two } : { path: 0, chain: 0 };
  const all = { ...defaults, ...fields };
  rig.put(
    fields.map ?? 'flows',
    key,
    abi.flow.encode({
      word: flowWord(all, norm),
      createdNs: 0n,
      rule: fields.rule ?? 5,
      slot: fields.slot ?? 1,
      rulesGen: fields.rulesGen ?? 1,
      chain: all.chain,
      fwdPort: fields.fwdPort ?? PORT.inside,
      entropy: ENTROPY,
      pinGen: 3,
      altScope: 0,
      out: [NO_HOP, NO_HOP],
    }),
  );
  return key;
}

export function readFlow(rig: Rig, key: Uint8Array, map: 'flows' | 'embryos' = 'flows'): abi.Flow {
  const value = rig.map(map).lookup(key);
  if (value === undefined) throw new Error(`no flow in ${map} under ${Buffer.from(key).toString('hex')}`);
  return abi.flow.decode(value);
}

export function pathOf(flow: abi.Flow): number {
  return Number(flow.word & BigInt(abi.FlowWord.WORD_PATH_MASK));
}

export function genOf(flow: abi.Flow): number {
  return Number((flow.word >> BigInt(abi.FlowWord.WORD_CHAIN_GEN_SHIFT)) & 0xffffn);
}

/** No flow is known any more, established or embryonic. */
export function clearFlows(rig: Rig): void {
  for (const name of ['flows', 'embryos'])
    for (const key of [...rig.map(name).keys()]) rig.map(name).delete(key);
}
