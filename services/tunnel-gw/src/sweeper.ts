// SPDX-License-Identifier: Apache-2.0
// The sweep over all flow records: idle ones end, slots that no record holds are free again, pins that are in use are refreshed in Redis, and
// what Redis does not know yet is recorded. Never a command per packet: one look at every record a few times a minute.
import { setImmediate } from 'node:timers/promises';
import { abi, type FlowRecord } from '@detour/contracts';
import { type FlowKey, PROTO } from '@detour/core';
import { BOTH_FIN, type FlowHead, hasEnded, readFlowHead } from './flow-head.js';
import { chainIdleMs, pinOf } from './flow-pin.js';
import { flowsOf, type ScannedFlow, scanFlowBatches } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import { decodeFlowKey, type FlowMaps, type FlowTable } from './flow-table.js';
import { isProgrammed, isServiced } from './flow-word.js';
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
  /** By the clock, when it began. */
  readonly beganMs: number;
  /** How long ago the last packet of any flow had been counted then; infinite when none was. */
  readonly quietMs: number;
  readonly tookMs: number;
  readonly byNode: ReadonlyMap<number, number>;
  /** Flows that stay, by path. */
  readonly byPath: ReadonlyMap<number, number>;
}

/** Who is told of flows that the sweep comes by; keys are structs flow_key, values structs flow, both the sweep's own memory. */
export interface FlowWatch {
  /** A decided flow that is there. */
  sees(key: Uint8Array, value: Uint8Array, head: FlowHead): void;
  /** The sweep has removed its record; its counters are as they were. */
  ended(key: Uint8Array, value: Uint8Array): void;
  /** No record has this slot any more: the kernel removed it, or pushed it out. Its counters are as they were. */
  vanished(slot: number): void;
}

export interface SweeperOptions {
  readonly maps: FlowMaps;
  readonly table: FlowTable;
  readonly slots: FlowSlots;
  readonly chains: () => ReadonlyMap<number, ChainModel>;
  readonly monoMs: () => number;
  /** CLOCK_MONOTONIC, as the datapath writes it into records and counters. */
  readonly nowNs: () => bigint;
  /** Pins in use whose expiry in Redis should move. */
  readonly onRefresh: (pins: readonly PinUse[]) => void;
  /** Pins that Redis does not know yet. */
  readonly onUnrecorded: (pins: readonly PinUse[]) => void;
  /** Flows with a pin in Redis whose connection was closed or reset: the pin is of no use to anybody. */
  readonly onEnded: (keys: readonly FlowKey[]) => void;
  readonly watch?: FlowWatch | undefined;
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
/** A pin that another gateway has written over is noticed within this time, unless there are more than can be looked at so often. */
const REFRESH_WITHIN_MS = 60_000;
const REFRESHES_PER_S = 10_000;
const BATCH = 512;
const ENDS_AT_ONCE = 256;

/** One sweep over everything; yields to the event loop every few records. */
export async function sweepFlows(options: SweeperOptions, signal: AbortSignal): Promise<SweepResult> {
  const sweep = new Sweep(options);
  for await (const batch of scanFlowBatches(options.maps, signal)) {
    for (const record of flowsOf(batch)) sweep.look(record);
  }
  sweep.flush();
  await sweep.end(signal);
  return sweep.result();
}

interface Ending {
  readonly key: Uint8Array;
  /** For who watches; null where nobody does, or the flow was never decided. */
  readonly value: Uint8Array | null;
  readonly established: boolean;
  readonly slot: number;
  /** Its pin in Redis is known to be there, and nobody needs it any more. */
  readonly unpin: boolean;
}

class Sweep {
  private readonly beganMs: number;
  private readonly refreshWithinMs: number;
  private readonly nowNs: number;
  private latestNs = Number.NEGATIVE_INFINITY;
  private readonly chains: ReadonlyMap<number, ChainModel>;
  private readonly pathNodes: ReadonlyMap<number, readonly number[]>;
  private readonly seenSlots: Uint8Array;
  private readonly byNode = new Map<number, number>();
  private readonly byPath = new Map<number, number>();
  private readonly counts = { flows: 0, embryos: 0, pinned: 0, unrecorded: 0, ended: 0 };
  private readonly ending: Ending[] = [];
  private refresh: PinUse[] = [];
  private unrecorded: PinUse[] = [];

  constructor(private readonly options: SweeperOptions) {
    this.beganMs = options.monoMs();
    this.nowNs = Number(options.nowNs());
    this.chains = options.chains();
    this.pathNodes = new Map(
      [...this.chains.values()].flatMap((chain) =>
        chain.paths.map((path) => [path.number, path.nodes] as const),
      ),
    );
    this.seenSlots = new Uint8Array(options.slots.capacity);
    this.refreshWithinMs = Math.max(REFRESH_WITHIN_MS, (options.slots.inUse / REFRESHES_PER_S) * 1_000);
  }

  look({ key, value, established }: ScannedFlow): void {
    const { counts } = this;
    const { watch } = this.options;
    if (established) counts.flows++;
    else counts.embryos++;
    const flow = readFlowHead(value);
    const pending = flow.action === abi.FlowAction.FLOW_PENDING;
    const slot = pending ? 0 : flow.slot;
    this.seenSlots[slot] = 1;
    const { lastNs, seen } = pending ? NEVER : this.options.table.activity(slot);
    if (lastNs > this.latestNs) this.latestNs = lastNs;
    const idleMs = (this.nowNs - (lastNs === 0 ? flow.createdNs : lastNs)) / 1e6;
    if (!pending) watch?.sees(key, value, flow);
    const proto = key[PROTO_AT] ?? 0;
    const chain = this.chains.get(flow.chain);
    if (idleMs >= idleLimitMs({ action: flow.action, flags: flow.flags, established, proto, seen }, chain))
      this.ending.push({
        key: key.slice(),
        value: watch === undefined || pending ? null : value.slice(),
        established,
        slot,
        unpin: hasEnded(seen) && isServiced(flow) && this.options.slots.isRecorded(slot),
      });
    else if (isServiced(flow) && chain !== undefined && flow.path !== 0) {
      if (!hasEnded(seen) && !isProgrammed(flow))
        this.byPath.set(flow.path, (this.byPath.get(flow.path) ?? 0) + 1);
      this.lookAtPin(flow, { key, idleMs, ttlMs: chainIdleMs(chain, proto) });
    }
  }

  private lookAtPin(
    flow: FlowHead,
    { key, idleMs, ttlMs }: { readonly key: Uint8Array; readonly idleMs: number; readonly ttlMs: number },
  ): void {
    const { counts, byNode, beganMs } = this;
    const { slots } = this.options;
    if (flow.slot === 0) return; // nothing but its opening was seen: nobody is told of it
    counts.pinned++;
    if (!isProgrammed(flow))
      for (const node of this.pathNodes.get(flow.path) ?? []) byNode.set(node, (byNode.get(node) ?? 0) + 1);
    const recorded = slots.isRecorded(flow.slot);
    if (!recorded) counts.unrecorded++;
    const sinceRefreshMs = beganMs - slots.refreshedAtMs(flow.slot);
    if (
      recorded &&
      (sinceRefreshMs < Math.min(ttlMs / REFRESH_FRACTION, this.refreshWithinMs) || idleMs > sinceRefreshMs)
    )
      return;
    (recorded ? this.refresh : this.unrecorded).push({
      key: decodeFlowKey(key),
      slot: flow.slot,
      record: pinOf(flow, slots.pinGenOf(flow.slot)),
      ttlS: Math.ceil(ttlMs / 1000),
    });
    if (this.refresh.length + this.unrecorded.length >= BATCH) this.flush();
  }

  flush(): void {
    if (this.refresh.length > 0) this.options.onRefresh(this.refresh);
    if (this.unrecorded.length > 0) this.options.onUnrecorded(this.unrecorded);
    this.refresh = [];
    this.unrecorded = [];
  }

  /** Removes what was idle, has the datapath forget it, then frees the slots that no record holds. */
  async end(signal: AbortSignal): Promise<void> {
    const { table, slots, onEnded, watch } = this.options;
    const unpinned: FlowKey[] = [];
    const free: number[] = [];
    for (const [i, { key, value, established, slot, unpin }] of this.ending.entries()) {
      if (i % ENDS_AT_ONCE === ENDS_AT_ONCE - 1) {
        await setImmediate();
        signal.throwIfAborted();
      }
      if (!table.remove(key, established)) continue; // promoted meanwhile, or pushed out: the next sweep sees who holds the slot
      this.counts.ended++;
      if (value !== null) watch?.ended(key, value);
      if (unpin) unpinned.push(decodeFlowKey(key));
      if (slot !== 0 && (established || !table.isEstablished(key))) free.push(slot);
    }
    if (free.length > 0) table.forgetRemoved();
    for (const slot of free) slots.release(slot);
    if (unpinned.length > 0) onEnded(unpinned);
    slots.releaseUnseen(this.seenSlots, this.beganMs, (slot) => watch?.vanished(slot));
  }

  result(): SweepResult {
    return {
      ...this.counts,
      byNode: this.byNode,
      byPath: this.byPath,
      beganMs: this.beganMs,
      quietMs: Math.max(0, (this.nowNs - this.latestNs) / 1e6),
      tookMs: this.options.monoMs() - this.beganMs,
    };
  }
}

const NEVER = { lastNs: 0, seen: 0 };
const PROTO_AT = abi.flowKey.offsets.proto;

/** How long a record may be idle. A connection that ended stays a while, so that its last packets pass (late FIN, late ACK). */
function idleLimitMs(
  flow: { action: number; flags: number; established: boolean; proto: number; seen: number },
  chain: ChainModel | undefined,
): number {
  if (flow.action === abi.FlowAction.FLOW_PENDING) return IDLE_MS.pending;
  if (flow.action === abi.FlowAction.FLOW_DROP && !isProgrammed(flow)) return IDLE_MS.dropped;
  if (flow.proto === PROTO.tcp) {
    if ((flow.seen & abi.FlowSeen.SEEN_RST) !== 0) return IDLE_MS.reset;
    if ((flow.seen & BOTH_FIN) === BOTH_FIN) return IDLE_MS.bothFin;
    if (!flow.established) return IDLE_MS.embryonicTcp;
  }
  return chain === undefined ? IDLE_MS.unchained : chainIdleMs(chain, flow.proto);
}
