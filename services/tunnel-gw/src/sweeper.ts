// SPDX-License-Identifier: Apache-2.0
// The sweep over all flow records: idle ones end, slots that no record holds are free again, pins that are in use are refreshed in Redis, and
// what Redis does not know yet is recorded. Never a command per packet: one look at every record a few times a minute.
import { abi, type FlowRecord } from '@detour/contracts';
import { PROTO } from '@detour/core';
import { scanFlows } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import { decodeFlowKey, type FlowMaps, type FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import type { ChainModel } from './model.js';

export interface PinUse {
  readonly key: abi.FlowKey;
  readonly slot: number;
  readonly record: FlowRecord;
  readonly ttlS: number;
}

export interface SweepResult {
  readonly flows: number;
  readonly embryos: number;
  readonly pinned: number;
  readonly unrecorded: number;
  readonly ended: number;
  readonly tookMs: number;
  readonly byNode: ReadonlyMap<number, number>;
}

export interface SweeperOptions {
  readonly maps: FlowMaps;
  readonly table: FlowTable;
  readonly slots: FlowSlots;
  readonly chains: () => ReadonlyMap<number, ChainModel>;
  readonly monoMs: () => number;
  /** Pins in use whose expiry in Redis should move. */
  readonly onRefresh: (pins: readonly PinUse[]) => void;
  /** Pins that Redis does not know yet. */
  readonly onUnrecorded: (pins: readonly PinUse[]) => void;
}

/** Idle times in ms where no chain says one. */
const IDLE_MS = {
  embryonicTcp: 30_000,
  bothFin: 30_000,
  reset: 10_000,
  unchained: 120_000,
  dropped: 10_000,
  pending: 2_000,
} as const;
const REFRESH_FRACTION = 4;
const BOTH_FIN = abi.FlowSeen.SEEN_FIN_FWD | abi.FlowSeen.SEEN_FIN_REV;
const BATCH = 512;

/** One sweep over everything; yields to the event loop between batches. */
export async function sweepFlows(options: SweeperOptions, signal: AbortSignal): Promise<SweepResult> {
  const { maps, table, slots } = options;
  const beganMs = options.monoMs();
  const nowNs = process.hrtime.bigint();
  const chains = options.chains();
  const pathNodes = new Map(
    [...chains.values()].flatMap((chain) => chain.paths.map((path) => [path.number, path.nodes] as const)),
  );
  const seenSlots = new Uint8Array(slots.capacity);
  const byNode = new Map<number, number>();
  const counts = { flows: 0, embryos: 0, pinned: 0, unrecorded: 0, ended: 0 };
  const ending: { key: Uint8Array; established: boolean; slot: number }[] = [];
  let refresh: PinUse[] = [];
  let unrecorded: PinUse[] = [];
  const flush = () => {
    if (refresh.length > 0) options.onRefresh(refresh);
    if (unrecorded.length > 0) options.onUnrecorded(unrecorded);
    refresh = [];
    unrecorded = [];
  };
  for await (const { key, value, established } of scanFlows(maps, signal)) {
    if (established) counts.flows++;
    else counts.embryos++;
    const flow = abi.flow.decode(value);
    const word = unpackFlowWord(flow.word);
    const pending = word.action === abi.FlowAction.FLOW_PENDING;
    if (!pending) seenSlots[flow.slot] = 1;
    const seen = pending ? null : table.counters(flow.slot);
    const lastNs = seen === null || seen.lastNs === 0n ? flow.createdNs : seen.lastNs;
    const idleMs = Number((nowNs - lastNs) / 1_000_000n);
    const proto = key[PROTO_AT] ?? 0;
    const chain = chains.get(flow.chain);
    const limitMs = idleLimitMs({ action: word.action, established, proto, seen: seen?.seen ?? 0 }, chain);
    if (idleMs >= limitMs) {
      ending.push({ key: key.slice(), established, slot: pending ? 0 : flow.slot });
      continue;
    }
    if (word.action !== abi.FlowAction.FLOW_STEER || chain === undefined || word.path === 0) continue;
    counts.pinned++;
    for (const node of pathNodes.get(word.path) ?? []) byNode.set(node, (byNode.get(node) ?? 0) + 1);
    const ttlMs = chainIdleMs(chain, proto);
    const record = {
      gen: Math.max(1, slots.pinGenOf(flow.slot)),
      path: word.path,
      chain: flow.chain,
      initiatorIsB: word.initiatorIsB,
    };
    const recorded = slots.isRecorded(flow.slot);
    if (!recorded) counts.unrecorded++;
    const dueMs = slots.refreshedAtMs(flow.slot) + ttlMs / REFRESH_FRACTION;
    if (recorded && (beganMs < dueMs || idleMs > beganMs - slots.refreshedAtMs(flow.slot))) continue;
    (recorded ? refresh : unrecorded).push({
      key: decodeFlowKey(key),
      slot: flow.slot,
      record,
      ttlS: Math.ceil(ttlMs / 1000),
    });
    if (refresh.length + unrecorded.length >= BATCH) flush();
  }
  flush();
  for (const { key, established, slot } of ending) {
    if (!table.remove(key, established)) continue; // promoted meanwhile, or pushed out: the next sweep sees who holds the slot
    counts.ended++;
    if (slot !== 0 && (established || !table.isEstablished(key))) slots.release(slot);
  }
  slots.releaseUnseen(seenSlots, beganMs);
  return { ...counts, byNode, tookMs: options.monoMs() - beganMs };
}

const PROTO_AT = abi.flowKey.offsets.proto;

/** How long a record may be idle. A connection that ended stays a while, so that its last packets pass (late FIN, late ACK). */
function idleLimitMs(
  flow: { action: number; established: boolean; proto: number; seen: number },
  chain: ChainModel | undefined,
): number {
  if (flow.action === abi.FlowAction.FLOW_PENDING) return IDLE_MS.pending;
  if (flow.action === abi.FlowAction.FLOW_DROP) return IDLE_MS.dropped;
  if (flow.proto === PROTO.tcp) {
    if ((flow.seen & abi.FlowSeen.SEEN_RST) !== 0) return IDLE_MS.reset;
    if ((flow.seen & BOTH_FIN) === BOTH_FIN) return IDLE_MS.bothFin;
    if (!flow.established) return IDLE_MS.embryonicTcp;
  }
  return chain === undefined ? IDLE_MS.unchained : chainIdleMs(chain, flow.proto);
}

export function chainIdleMs(chain: ChainModel, proto: number): number {
  if (proto === PROTO.tcp) return chain.idleMs.tcp;
  return proto === PROTO.udp ? chain.idleMs.udp : chain.idleMs.other;
}
