// SPDX-License-Identifier: Apache-2.0
// Flows recorded by hand, as tunnel-gw does, and read back.
import { abi } from '@detour/contracts';
import { normaliseTuple, type Tuple } from '@detour/core';
import { buildFrame, type FrameFields, ipToKeyBytes } from '@detour/wire';
import { CHAIN, PATH, PORT, VRF } from './ends.js';
import { CLIENT, macOf, SERVER } from './network.js';
import type { Rig } from './rig.js';

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
  readonly entropy?: number;
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
  const slot = new Uint8Array(Uint32Array.of(fields.slot ?? 1).buffer);
  rig.put('flow_counters', slot, new Uint8Array(abi.flowCounters.size)); // a flow before it may have had the row
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
      entropy: fields.entropy ?? ENTROPY,
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

/** No flow is known any more, established or embryonic, nor what was counted of it. */
export function clearFlows(rig: Rig): void {
  const zero = new Uint8Array(abi.flowCounters.size);
  for (const name of ['flows', 'embryos'] as const)
    for (const key of [...rig.map(name).keys()]) {
      rig.put('flow_counters', readFlow(rig, key, name).slot, zero);
      rig.remove(name, key);
    }
}
