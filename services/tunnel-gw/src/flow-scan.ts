// SPDX-License-Identifier: Apache-2.0
// All live flow records, read in batches off the main loop's way: for the sweeper and for `detour get flows`.
import { readBatches } from '@detour/bpf';
import { abi } from '@detour/contracts';
import type { FlowMaps } from './flow-table.js';

/** Records of one turn of the event loop: so few that a failover waits for them less than a millisecond. */
const CHUNK = 64;

/** Some records; the bytes are used again for the next ones. */
export interface FlowBatch {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly established: boolean;
}

/** One record; the bytes are the batch's memory, valid until the next step. */
export interface ScannedFlow {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly established: boolean;
}

export async function* scanFlowBatches(maps: FlowMaps, signal?: AbortSignal): AsyncGenerator<FlowBatch> {
  for (const [map, established] of [
    [maps.embryos, false], // first: what is promoted meanwhile is then seen twice, never missed
    [maps.flows, true],
  ] as const) {
    const options = signal === undefined ? { chunk: CHUNK } : { chunk: CHUNK, signal };
    for await (const { count, keys, values } of readBatches(map, options))
      yield { count, keys, values, established };
  }
}

/** The records of a batch, one by one. */
export function* flowsOf({ count, keys, values, established }: FlowBatch): Generator<ScannedFlow> {
  for (let i = 0; i < count; i++) {
    yield {
      key: keys.subarray(i * abi.flowKey.size, (i + 1) * abi.flowKey.size),
      value: values.subarray(i * abi.flow.size, (i + 1) * abi.flow.size),
      established,
    };
  }
}

export async function* scanFlows(maps: FlowMaps, signal?: AbortSignal): AsyncGenerator<ScannedFlow> {
  for await (const batch of scanFlowBatches(maps, signal)) yield* flowsOf(batch);
}
