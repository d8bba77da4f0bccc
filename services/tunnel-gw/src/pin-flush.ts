// SPDX-License-Identifier: Apache-2.0
// Has Redis hold the pin of every flow that is there now, whatever was thought to be recorded already: what Redis lost is written again. For a
// drain, before other gateways get these flows' packets. Flows that begin meanwhile are recorded as always, when they begin.
import type { Clock } from '@detour/core';
import { readFlowHead } from './flow-head.js';
import { chainIdleMs, pinOf } from './flow-pin.js';
import { flowsOf, scanFlowBatches } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import { decodeFlowKey, type FlowMaps } from './flow-table.js';
import { isServiced } from './flow-word.js';
import type { ChainModel } from './model.js';
import type { PinUse } from './sweeper.js';

export interface PinFlushOptions {
  readonly maps: FlowMaps;
  readonly slots: FlowSlots;
  readonly chains: () => ReadonlyMap<number, ChainModel>;
  /** Brings the books up to what the datapath took by itself. */
  readonly noticeTaken: () => void;
  readonly onRefresh: (pins: readonly PinUse[]) => void;
  readonly onUnrecorded: (pins: readonly PinUse[]) => void;
  /** Batches of refreshes that Redis has not answered yet. */
  readonly refreshing: () => number;
  readonly onLeft: (count: number) => void;
  readonly clock: Clock;
}

const BATCH = 512;
const LOOK_EVERY_MS = 20;
/** Between offers of the same pins to a Redis that did not take them. */
const OFFER_EVERY_MS = 250;

/** Resolves when Redis has said of each that it holds it; tries for as long as it does not. Rejects when the signal comes. */
export async function flushPins(options: PinFlushOptions, signal: AbortSignal): Promise<void> {
  const { clock, refreshing, onLeft } = options;
  const beganMs = clock.monoMs();
  for (let round = 0; ; round++) {
    const left = await offerUnsettled(options, beganMs, signal);
    onLeft(left);
    if (left === 0) return;
    do await pause(clock, round === 0 ? LOOK_EVERY_MS : OFFER_EVERY_MS, signal);
    while (refreshing() > 0); // until then a pin passes for refreshed that is not
  }
}

/** Hands each to the keeper that was there at `beganMs` and that Redis has not answered for since; how many. */
async function offerUnsettled(
  options: PinFlushOptions,
  beganMs: number,
  signal: AbortSignal,
): Promise<number> {
  const { slots, onRefresh, onUnrecorded } = options;
  const lists = [
    { pins: [] as PinUse[], tell: onRefresh },
    { pins: [] as PinUse[], tell: onUnrecorded },
  ] as const;
  let count = 0;
  for await (const pin of unsettled(options, beganMs, signal)) {
    count++;
    const list = lists[slots.isRecorded(pin.slot) ? 0 : 1];
    list.pins.push(pin);
    if (list.pins.length >= BATCH) list.tell(list.pins.splice(0));
  }
  for (const { pins, tell } of lists) if (pins.length > 0) tell(pins);
  return count;
}

async function* unsettled(
  { maps, slots, chains, noticeTaken }: PinFlushOptions,
  beganMs: number,
  signal: AbortSignal,
): AsyncGenerator<PinUse> {
  noticeTaken();
  const all = chains();
  for await (const batch of scanFlowBatches(maps, signal))
    for (const { key, value } of flowsOf(batch)) {
      const flow = readFlowHead(value);
      const chain = all.get(flow.chain);
      const { slot } = flow;
      if (!isServiced(flow) || flow.path === 0 || slot === 0 || chain === undefined) continue;
      if (slots.takenAtMs(slot) > beganMs) continue;
      if (slots.isRecorded(slot) && slots.refreshedAtMs(slot) > beganMs) continue;
      const flowKey = decodeFlowKey(key);
      const ttlS = Math.ceil(chainIdleMs(chain, flowKey.proto) / 1000);
      yield { key: flowKey, slot, record: pinOf(flow, slots.pinGenOf(slot)), ttlS };
    }
}

function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = clock.after(ms, () => {
      signal.removeEventListener('abort', aborted);
      resolve();
    });
    const aborted = (): void => {
      end();
      reject(signal.reason);
    };
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) aborted();
  });
}
