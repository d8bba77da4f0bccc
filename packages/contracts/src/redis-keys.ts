// SPDX-License-Identifier: Apache-2.0
// Redis: one key per live flow, and the record under it (ADR 0002).
import { type FlowKey, flowKeyText } from '@detour/core';

const PREFIX = 'detour:flow:';

/** Key of a flow's affinity record; scoped records share their flow's. The braces keep a flow's keys in one cluster slot. */
export function flowRecordKey(key: FlowKey): string {
  return `${PREFIX}{${flowKeyText({ ...key, scope: 0 })}}`;
}

export const FLOW_RECORD_PATTERN = `${PREFIX}*`;

/** A pin: which path a flow keeps. Higher `gen` wins, then lower path; no wall clocks. */
export interface FlowRecord {
  readonly gen: number; // pin generation, from 1
  readonly path: number;
  readonly chain: number;
  readonly initiatorIsB: boolean;
}

/** Compact text `gen|path|chain|b`. */
export function encodeFlowRecord(record: FlowRecord): string {
  return `${record.gen}|${record.path}|${record.chain}|${record.initiatorIsB ? 1 : 0}`;
}

/** null when the text is no record. */
export function decodeFlowRecord(text: string): FlowRecord | null {
  const match = /^(\d{1,9})\|(\d{1,8})\|(\d{1,5})\|([01])$/.exec(text);
  if (match === null) return null;
  return {
    gen: Number(match[1]),
    path: Number(match[2]),
    chain: Number(match[3]),
    initiatorIsB: match[4] === '1',
  };
}
