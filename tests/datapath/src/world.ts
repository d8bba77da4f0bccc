// SPDX-License-Identifier: Apache-2.0
// The tables of the tests: one VRF, its ports, three nodes behind VXLAN, a branch VTI, chains with their paths; in either bank.
import { abi } from '@detour/contracts';
import { concatBytes, ipToKeyBytes, macToBytes } from '@detour/wire';
import {
  BRANCH_END,
  BRANCH_HOP,
  CHAIN,
  hopValue,
  NODES,
  OWN,
  PATH,
  PORT,
  type RemoteEnd,
  UNDERLAY,
  VRF,
} from './ends.js';
import { clearFlows } from './flow-records.js';
import { macOf, TABLE } from './network.js';
import { type Rig, u32 } from './rig.js';

/** Every row that a published revision has, into one bank. */
export function publish(rig: Rig, bank: 0 | 1): void {
  const at = (max: number, row: number): number => bank * max + row;
  const { DetourLimit: limit, PortKind: kind } = abi;
  const port = (device: keyof Rig['ifindex'], fields: Partial<abi.Port>): void => {
    const value = abi.port.encode({ ...PORT_BASE, ...fields });
    rig.put('ports', abi.portKey.encode({ ifindex: rig.ifindex[device], vlan: 0, inner: 0, bank }), value);
    if (fields.number !== undefined) rig.put('port_numbers', at(limit.DT_MAX_PORTS, fields.number), value);
  };
  const vrf = { vrf: VRF, table: rig.tableRow(TABLE) };
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
    frontMask: rig.map('flow_front').maxEntries - 1,
    rulesLines: rig.map('rules').maxEntries >>> 1,
  });
}

/** As published, with no flow, no source that has used up anything, and no event unread. */
export function startAfresh(rig: Rig): void {
  publishAll(rig);
  clearFlows(rig);
  for (const key of [...rig.map('sources').keys()]) rig.map('sources').delete(key);
  rig.events();
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
  node: 0,
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
    table: rig.tableRow(TABLE),
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

/** A frame as tunnel-gw puts it back. */
export function injected(op: number, at: { port?: number; node?: number }, frame: Uint8Array): Uint8Array {
  const header = abi.injectHdr.encode({
    ...{ dst: new Uint8Array(6), src: new Uint8Array(6), ethertype: abi.InjectEthertype.INJECT_ETHERTYPE },
    ...{ op, reason: 0, port: at.port ?? 0, node: at.node ?? 0 },
  });
  return concatBytes(header, frame);
}

/** Hop rows have their node's number; the reverse direction visits the nodes in reverse order. */
export function putPath(
  rig: Rig,
  bank: 0 | 1,
  number: number,
  fields: { chain: number; nodes: readonly number[]; state?: number; heir?: number },
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
    abi.path.encode({
      chain: fields.chain,
      state,
      nhops: fields.nodes.length,
      node,
      hop,
      heir: fields.heir ?? 0,
    }),
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
    decides: 0,
    nslots: slots.length,
    backup: 0,
    mss: 0,
  };
  const path = new Uint16Array(abi.DetourLimit.DT_MAX_SLOTS);
  path.set(slots);
  rig.put('selections', row, abi.selection.encode({ path }));
  rig.put('chains', row, abi.chain.encode({ ...chain, ...fields }));
}
