// SPDX-License-Identifier: Apache-2.0
// All live flow records, read in batches off the main loop's way: for the sweeper and for `detour get flows`.
import { readBatches } from '@detour/bpf';
import { abi } from '@detour/contracts';
import type { FlowMaps } from './flow-table.js';

/** One record; the bytes are the batch's memory, valid until the next step. */
export interface ScannedFlow {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly established: boolean;
}

export async function* scanFlows(maps: FlowMaps, signal?: AbortSignal): AsyncGenerator<ScannedFlow> {
  for (const [map, established] of [
    [maps.embryos, false], // first: what is promoted meanwhile is then seen twice, never missed
    [maps.flows, true],
  ] as const) {
    for await (const batch of readBatches(map, signal === undefined ? {} : { signal })) {
      for (let i = 0; i < batch.count; i++) {
        yield {
          key: batch.keys.subarray(i * abi.flowKey.size, (i + 1) * abi.flowKey.size),
          value: batch.values.subarray(i * abi.flow.size, (i + 1) * abi.flow.size),
          established,
        };
      }
    }
  }
}
