// SPDX-License-Identifier: Apache-2.0
// Redis: one key per live flow, and the record under it (ADR 0002).
import { type FlowKey, flowKeyText } from '@detour/core';

const PREFIX = 'detour:flow:';

/** Key of a flow's affinity record; scoped records share their flow's. The braces keep a flow's keys in one cluster slot. */
export function flowRecordKey(key: FlowKey): string {
  return `${PREFIX}{${flowKeyText({ ...key, scope: 0 })}}`;
}

/** A port of a SNAT address towards one remote end; addresses as numbers. */
export interface SnatPort {
  readonly vrf: number;
  readonly proto: number;
  readonly address: number;
  readonly port: number;
  readonly remote: number;
  readonly remotePort: number;
}

/** Key of who has a port of a SNAT address that several gateways share. */
export function snatPortKey({ vrf, proto, address, port, remote, remotePort }: SnatPort): string {
  return `detour:snat:{${vrf}|${proto}|${address}|${port}|${remote}|${remotePort}}`;
}

/** The inner end point as the value under it. */
export function encodeSnatHolder({
  address,
  port,
}: {
  readonly address: number;
  readonly port: number;
}): string {
  return `${address}|${port}`;
}

/** null when the text is no inner end point. */
export function decodeSnatHolder(text: string): { readonly address: number; readonly port: number } | null {
  const match = /^(\d{1,10})\|(\d{1,5})$/.exec(text);
  const [address, port] = [Number(match?.[1]), Number(match?.[2])];
  return match === null || address > 0xffffffff || port > 0xffff ? null : { address, port };
}

/** Written beside a record's key, to the same cluster slot, to see whether Redis takes writes; it is gone in a second. */
export function redisProbeKey(recordKey: string): string {
  return `${recordKey}:probe`;
}

export const FLOW_RECORD_PATTERN = `${PREFIX}*`;

/** A pin: which path a flow keeps. Higher `gen` wins, then lower path; no wall clocks. */
export interface FlowRecord {
  readonly gen: number; // pin generation, from 1
  readonly path: number;
  readonly chain: number;
  readonly initiatorIsB: boolean;
  /** What a node of the path said of the flow; absent: it is steered. */
  readonly programmed?: 'allow' | 'drop';
}

/** Compact text `gen|path|chain|flags`; flags: 1 the initiator is b, 2 programmed to be allowed, 4 to be dropped. */
export function encodeFlowRecord(record: FlowRecord): string {
  return `${record.gen}|${record.path}|${record.chain}|${flagsOf(record)}`;
}

/** null when the text is no record. */
export function decodeFlowRecord(text: string): FlowRecord | null {
  const match = /^(\d{1,9})\|(\d{1,8})\|(\d{1,5})\|([0-5])$/.exec(text);
  if (match === null) return null;
  const flags = Number(match[4]);
  return {
    gen: Number(match[1]),
    path: Number(match[2]),
    chain: Number(match[3]),
    initiatorIsB: (flags & 1) === 1,
    ...(flags < 2 ? {} : { programmed: flags < 4 ? 'allow' : 'drop' }),
  };
}

/** Which of two records of the same generation and path counts: the higher. A drop before nothing before an allow, then `a` before `b`. */
export function flowRecordRank(record: FlowRecord): number {
  return RANK_OF_FLAGS[flagsOf(record)] ?? 0;
}

const RANK_OF_FLAGS = [4, 3, 2, 1, 6, 5];

function flagsOf({ initiatorIsB, programmed }: FlowRecord): number {
  const said = programmed === undefined ? 0 : programmed === 'allow' ? 2 : 4;
  return said + (initiatorIsB ? 1 : 0);
}
