// SPDX-License-Identifier: Apache-2.0
// Flow records as people and programs read them: `detour get flows`.
import { abi, type FlowRow, type GetFlowsRequest } from '@detour/contracts';
import { compareAddresses, tupleOf } from '@detour/core';
import { agoMs } from './counters.js';
import { scanFlows } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import { decodeFlowKey, type FlowCounts, type FlowMaps, type FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import { type ChainModel, type GatewayModel, nodeLabel } from './model.js';
import { bindingText, type SnatTable } from './snat-table.js';

export interface FlowRowSources {
  readonly maps: FlowMaps;
  readonly table: FlowTable;
  readonly slots: FlowSlots;
  readonly model: GatewayModel;
  readonly chains: ReadonlyMap<number, ChainModel>;
  readonly snat: SnatTable;
}

const ACTION_NAME: Readonly<Record<number, string>> = {
  [abi.FlowAction.FLOW_PENDING]: 'pending',
  [abi.FlowAction.FLOW_ALLOW]: 'allow',
  [abi.FlowAction.FLOW_DROP]: 'drop',
  [abi.FlowAction.FLOW_STEER]: 'steer',
};

const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 1_000_000;

/** Matching flows, at most `limit`; filters by names that are unknown match nothing. */
export async function* flowRows(
  sources: FlowRowSources,
  request: GetFlowsRequest,
  signal: AbortSignal,
): AsyncGenerator<FlowRow> {
  const limit = Math.min(MAX_LIMIT, request.limit === 0 ? DEFAULT_LIMIT : request.limit);
  const wantedPath = /^\d+$/.test(request.path) ? Number(request.path) : null;
  let sent = 0;
  for await (const scanned of scanFlows(sources.maps, signal)) {
    if (sent >= limit) return;
    const row = toRow(sources, scanned.key, abi.flow.decode(scanned.value), scanned.established);
    if (request.node !== '' && !row.nodes.includes(request.node)) continue;
    if (request.chain !== '' && row.chain !== request.chain) continue;
    if (wantedPath !== null && row.path !== wantedPath) continue;
    if (request.address.length === 16 && row.tuple !== undefined) {
      if (
        compareAddresses(row.tuple.src, request.address) !== 0 &&
        compareAddresses(row.tuple.dst, request.address) !== 0
      )
        continue;
    }
    sent++;
    yield row;
  }
}

/** Of a flow that the datapath decided and that has no counter row yet: its record counts its opening. */
function openingCounts({ out, fwdPort }: abi.Flow): FlowCounts {
  const { ifindex: packets = 0, mtu: size = 0 } = out[1] ?? {};
  const opening = [BigInt(packets), BigInt(packets) * BigInt(size)] as const;
  const [forward, reverse] = fwdPort === 0 ? [NOTHING, opening] : [opening, NOTHING];
  return { packets: [forward[0], reverse[0]], bytes: [forward[1], reverse[1]], lastNs: 0n, seen: 0 };
}
const NOTHING = [0n, 0n] as const;

function toRow(sources: FlowRowSources, keyBytes: Uint8Array, flow: abi.Flow, established: boolean): FlowRow {
  const { model, chains, slots } = sources;
  const key = decodeFlowKey(keyBytes);
  const word = unpackFlowWord(flow.word);
  const tuple = tupleOf(key, word.initiatorIsB ? 1 : 0);
  const pending = word.action === abi.FlowAction.FLOW_PENDING;
  const counters = flow.slot === 0 ? openingCounts(flow) : sources.table.counters(pending ? 0 : flow.slot);
  const nodes = chains.get(flow.chain)?.paths.find((path) => path.number === word.path)?.nodes ?? [];
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
  };
}
