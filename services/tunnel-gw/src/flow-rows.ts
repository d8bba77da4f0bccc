// SPDX-License-Identifier: Apache-2.0
// Flow records as people and programs read them: `detour get flows`.
import { abi, FlowRow, type GetFlowsRequest } from '@detour/contracts';
import { tupleOf } from '@detour/core';
import { agoMs } from './counters.js';
import { flowFilter } from './flow-filter.js';
import { readFlowHead } from './flow-head.js';
import { flowsOf, scanFlowBatches } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import { decodeFlowKey, type FlowCounts, type FlowMaps, type FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import type { GatewayParts } from './gateway-parts.js';
import { type GatewayModel, nodeLabel } from './model.js';
import { bindingText, type SnatTable } from './snat-table.js';

export interface FlowRowSources {
  readonly maps: FlowMaps;
  readonly table: FlowTable;
  readonly slots: FlowSlots;
  readonly model: GatewayModel;
  readonly snat: SnatTable;
}

/** The sources of a gateway, by the version in force. */
export function rowSources(
  { flowMaps, flows, slots, desks }: Pick<GatewayParts, 'flowMaps' | 'flows' | 'slots' | 'desks'>,
  model: GatewayModel,
): FlowRowSources {
  return { maps: flowMaps, table: flows, slots, model, snat: desks.snatTable };
}

const ACTION_NAME: Readonly<Record<number, string>> = {
  [abi.FlowAction.FLOW_PENDING]: 'pending',
  [abi.FlowAction.FLOW_ALLOW]: 'allow',
  [abi.FlowAction.FLOW_DROP]: 'drop',
  [abi.FlowAction.FLOW_STEER]: 'steer',
};

const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 1_000_000;

/** Matching flows, at most `limit`, and in a last row how many more match, if any; filters by names that are unknown match nothing. */
export async function* flowRows(
  sources: FlowRowSources,
  request: GetFlowsRequest,
  signal: AbortSignal,
): AsyncGenerator<FlowRow> {
  const limit = Math.min(MAX_LIMIT, request.limit === 0 ? DEFAULT_LIMIT : request.limit);
  const matches = flowFilter(sources.model, request);
  let sent = 0;
  let leftOut = 0;
  for await (const batch of scanFlowBatches(sources.maps, signal)) {
    for (const { key, value, established } of flowsOf(batch)) {
      if (!matches(key, readFlowHead(value))) continue;
      if (sent === limit) {
        leftOut++;
        continue;
      }
      sent++;
      yield flowRow(sources, key, abi.flow.decode(value), established);
    }
  }
  if (leftOut > 0) yield FlowRow.fromPartial({ leftOut: BigInt(leftOut) });
}

/** Of a flow that the datapath decided and that has no counter row yet: its record counts its opening. */
function openingCounts({ out, fwdPort }: abi.Flow): FlowCounts {
  const { ifindex: packets = 0, mtu: size = 0 } = out[1] ?? {};
  const opening = [BigInt(packets), BigInt(packets) * BigInt(size)] as const;
  const [forward, reverse] = fwdPort === 0 ? [NOTHING, opening] : [opening, NOTHING];
  return { packets: [forward[0], reverse[0]], bytes: [forward[1], reverse[1]], lastNs: 0n, seen: 0 };
}
const NOTHING = [0n, 0n] as const;

/** One record with what it is called. `keyBytes` is a struct flow_key. */
export function flowRow(
  sources: FlowRowSources,
  keyBytes: Uint8Array,
  flow: abi.Flow,
  established: boolean,
): FlowRow {
  const { model, slots } = sources;
  const key = decodeFlowKey(keyBytes);
  const word = unpackFlowWord(flow.word);
  const tuple = tupleOf(key, word.initiatorIsB ? 1 : 0);
  const pending = word.action === abi.FlowAction.FLOW_PENDING;
  const counters = flow.slot === 0 ? openingCounts(flow) : sources.table.counters(pending ? 0 : flow.slot);
  const nodes = model.pathNodes.get(word.path) ?? [];
  const translates = model.ports.some(({ snat }) => snat !== undefined);
  const binding = translates ? sources.snat.read(key) : null;
  const since = (ns: bigint) => (ns === 0n ? 0n : agoMs(ns));
  return {
    tuple: {
      vrf: tuple.vrf,
      src: tuple.src,
      dst: tuple.dst,
      sport: tuple.sport,
      dport: tuple.dport,
      proto: tuple.proto,
    },
    action: ACTION_NAME[word.action] ?? `${word.action}`,
    rule: model.ruleNames.get(flow.rule) ?? '',
    chain: model.chainNames.get(flow.chain) ?? '',
    path: word.path,
    nodes: nodes.map((number) => nodeLabel(model, number)),
    port: model.ports.find((port) => port.number === flow.fwdPort)?.name ?? '',
    packetsForward: counters.packets[0],
    packetsReverse: counters.packets[1],
    bytesForward: counters.bytes[0],
    bytesReverse: counters.bytes[1],
    ageMs: since(flow.createdNs),
    idleMs: since(counters.lastNs === 0n ? flow.createdNs : counters.lastNs),
    established,
    decidedBy: pending ? '' : flow.slot === 0 ? 'kernel' : slots.deciderOf(flow.slot),
    pinGen: flow.pinGen,
    snat: binding === null ? '' : bindingText(binding),
    leftOut: 0n,
  };
}
