// SPDX-License-Identifier: Apache-2.0
// For tests: a gateway's flows in real maps of the kernel (the program itself is not attached), its keeper, and Redis.
import { type Affinity, openAffinity } from '@detour/affinity';
import type { BpfObject } from '@detour/bpf';
import { type Clock, silentLog, systemClock } from '@detour/core';
import { ChainModels } from './chain-models.js';
import { currentPin } from './flow-pin.js';
import { FlowSlots } from './flow-slots.js';
import { FlowTable } from './flow-table.js';
import { flushPins } from './pin-flush.js';
import { PinKeeper } from './pin-keeper.js';
import type { PinnedFlows } from './pin-settler.js';
import { type PinUse, sweepFlows } from './sweeper.js';
import { chainRow } from './testdata.js';

/** Entries of the maps that the object is opened with. */
export const RIG_MAPS = { flows: 32_768, embryos: 1_024, flow_counters: 32_768 + 1_024 + 1 } as const;

export interface PinRig extends AsyncDisposable {
  readonly affinity: Affinity;
  readonly keeper: PinKeeper;
  readonly gateway: PinnedFlows;
  readonly alarms: ReadonlyMap<string, string>;
  /** Paths that are down here. */
  readonly down: Set<number>;
  /** One sweep over all records: what is not recorded goes to the keeper, what is to be refreshed is handed back. */
  sweep(): Promise<{ refreshed: readonly PinUse[]; unrecorded: number }>;
  /** All that are there, as a drain does it; `onLeft` as in pin-flush.ts. */
  flush(onLeft: (count: number) => void, signal: AbortSignal): Promise<void>;
  pinOf(key: PinUse['key']): PinUse | null;
}

/** Chain 1 of the paths of `chainRow`; records are removed when it is disposed. */
export function openPinRig(spec: {
  readonly object: BpfObject;
  readonly url: string;
  readonly clock?: Clock;
}): PinRig {
  const { object, url, clock = systemClock() } = spec;
  const affinity = openAffinity({ url, log: silentLog });
  const alarms = new Map<string, string>();
  const down = new Set<number>();
  const keeper = new PinKeeper({
    ...{ affinity, clock, log: silentLog },
    alarms: {
      raise: (code, _subject, text) => void alarms.set(code, text),
      clear: (code) => void alarms.delete(code),
    },
  });
  const slots = new FlowSlots(RIG_MAPS.flow_counters);
  const models = new ChainModels(new Map());
  models.commit(models.draft([chainRow()], () => 'up'));
  const maps = {
    flows: object.map('flows'),
    embryos: object.map('embryos'),
    counters: object.map('flow_counters'),
  };
  const flows = new FlowTable({
    ...{ maps, slots },
    nowNs: () => process.hrtime.bigint(),
    nowMs: () => performance.now(),
    isInside: () => true,
    rulesGen: () => 1,
    chainGen: () => 1,
    onReplaced: () => undefined,
  });
  const gateway: PinnedFlows = {
    ...{ flows, slots },
    decisions: { isUsable: (_chain, path) => !down.has(path), chainOf: (number) => models.get(number) },
  };
  return {
    ...{ affinity, keeper, gateway, alarms, down },
    flush: (onLeft, signal) =>
      flushPins(
        {
          ...{ maps, slots, onLeft, clock: systemClock() },
          chains: () => models.all(),
          noticeTaken: () => undefined,
          refreshing: () => keeper.refreshing,
          onRefresh: (pins) => keeper.refresh(pins, gateway),
          onUnrecorded: (pins) => keeper.record(pins, gateway),
        },
        signal,
      ),
    pinOf: (key) => currentPin(key, gateway),
    sweep: async () => {
      const refreshed: PinUse[] = [];
      const { unrecorded } = await sweepFlows(
        {
          ...{ maps, slots, table: flows },
          chains: () => models.all(),
          monoMs: () => performance.now(),
          nowNs: () => process.hrtime.bigint(),
          onRefresh: (pins) => refreshed.push(...pins),
          onUnrecorded: (pins) => keeper.record(pins, gateway),
          onEnded: (keys) => keeper.end(keys),
        },
        new AbortController().signal,
      );
      return { refreshed, unrecorded };
    },
    [Symbol.asyncDispose]: async () => {
      keeper[Symbol.dispose]();
      await affinity[Symbol.asyncDispose]();
      for (const map of [maps.flows, maps.embryos]) for (const key of [...map.keys()]) map.delete(key);
    },
  };
}
