// SPDX-License-Identifier: Apache-2.0
// What a sweep needs of a flow record and its counters, read in place: a whole decoding of each of 262,144 records would take seconds.
import { abi } from '@detour/contracts';

const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
const WORD_BYTES = LITTLE ? { low: 0, high: 4 } : { low: 4, high: 0 };
const W = abi.FlowWord;
const AT = abi.flow.offsets;

/** Times are nanoseconds of CLOCK_MONOTONIC as numbers: exact to a microsecond for a hundred years. */
export interface FlowHead {
  readonly action: number; // abi.FlowAction
  readonly flags: number; // abi.FlowWordFlag
  readonly path: number;
  readonly initiatorIsB: boolean;
  readonly createdNs: number;
  readonly slot: number;
  readonly chain: number;
}

/** `value` holds a struct flow. */
export function readFlowHead(value: Uint8Array): FlowHead {
  const view = new DataView(value.buffer, value.byteOffset, abi.flow.size);
  const low = view.getUint32(AT.word + WORD_BYTES.low, LITTLE);
  return {
    action: (low >>> W.WORD_ACTION_SHIFT) & W.WORD_ACTION_MASK,
    flags: low >>> W.WORD_FLAGS_SHIFT,
    path: low & W.WORD_PATH_MASK,
    initiatorIsB: ((low >>> W.WORD_FWD_B_SHIFT) & 1) === 1,
    createdNs: readU64(view, AT.createdNs),
    slot: view.getUint32(AT.slot, LITTLE),
    chain: view.getUint16(AT.chain, LITTLE),
  };
}

/** When a flow's last packet was counted (0: none was) and what was seen (abi.FlowSeen). `rows` are structs flow_counters. */
export function readActivity(rows: DataView, at: number): { lastNs: number; seen: number } {
  const { lastNs, seen } = abi.flowCounters.offsets;
  return { lastNs: readU64(rows, at + lastNs), seen: rows.getUint32(at + seen, LITTLE) };
}

function readU64(view: DataView, at: number): number {
  return view.getUint32(at + WORD_BYTES.high, LITTLE) * 2 ** 32 + view.getUint32(at + WORD_BYTES.low, LITTLE);
}

/** Both sides have closed the connection. */
export const BOTH_FIN = abi.FlowSeen.SEEN_FIN_FWD | abi.FlowSeen.SEEN_FIN_REV;

/** A TCP connection that was reset, or closed by both sides; a SYN on its ports begins another (datapath/lib/flow.h). */
export function hasEnded(seen: number): boolean {
  return (seen & abi.FlowSeen.SEEN_RST) !== 0 || (seen & BOTH_FIN) === BOTH_FIN;
}
