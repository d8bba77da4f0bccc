// SPDX-License-Identifier: Apache-2.0
// One line of the flow log: names and keys are those of `detour get flows -o json`. Stable; docs/flow-log.md has each key.
import { abi, type FlowRow } from '@detour/contracts';
import { formatAddress, PROTO } from '@detour/core';
import { protocolName } from '@detour/intent';
import { dropName } from './counters.js';
import { hasEnded } from './flow-head.js';
import type { FlowWordFields } from './flow-word.js';
import { isProgrammed } from './flow-word.js';
import type { ChainModel } from './model.js';

export type EndReason = 'fin' | 'rst' | 'path_down' | 'unanswered' | 'idle' | 'evicted';

/** What a line is made from. */
export interface FlowFacts {
  readonly row: FlowRow;
  readonly word: FlowWordFields;
  /** abi.FlowSeen; 0 for a flow that has no counters. */
  readonly seen: number;
  /** Since its first and its last packet. */
  readonly ageMs: number;
  readonly idleMs: number;
  readonly vrf: string;
  /** Of the tables in force; absent when the flow has none, or it is gone. */
  readonly chain: ChainModel | undefined;
}

export interface LineHead {
  readonly gateway: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

type Fields = Readonly<Record<string, unknown>>;

const iso = (ms: number): string => new Date(ms).toISOString();

/** What all lines about a flow have. */
function common(
  event: string,
  { gateway, nowMs }: LineHead,
  { row, word, vrf, chain, ageMs }: FlowFacts,
): Fields {
  const { tuple } = row;
  const text = (address: Uint8Array | undefined) => (address === undefined ? '' : formatAddress(address));
  return {
    event,
    at: iso(nowMs),
    gateway,
    vrf,
    protocol: protocolName(tuple?.proto ?? 0),
    source: text(tuple?.src),
    sourcePort: tuple?.sport ?? 0,
    destination: text(tuple?.dst),
    destinationPort: tuple?.dport ?? 0,
    ...verdictOf(word, chain),
    rule: row.rule,
    chain: row.chain,
    path: row.path,
    nodes: row.nodes,
    port: row.port,
    snat: row.snat,
    decidedBy: row.decidedBy,
    began: iso(nowMs - ageMs),
  };
}

export function startLine(head: LineHead, facts: FlowFacts): string {
  return JSON.stringify(common('start', head, facts));
}

export function changeLine(
  head: LineHead,
  facts: FlowFacts,
  from: { readonly path: number; readonly nodes: readonly string[] },
): string {
  return JSON.stringify({ ...common('change', head, facts), fromPath: from.path, fromNodes: from.nodes });
}

export function endLine(head: LineHead, facts: FlowFacts, endReason: EndReason): string {
  const { row, ageMs, idleMs } = facts;
  return JSON.stringify({
    ...common('end', head, facts),
    endReason,
    lastPacket: iso(head.nowMs - idleMs),
    durationMs: ageMs - idleMs,
    packetsForward: Number(row.packetsForward),
    packetsReverse: Number(row.packetsReverse),
    bytesForward: Number(row.bytesForward),
    bytesReverse: Number(row.bytesReverse),
  });
}

/** What became of its packets, by its record: drop reasons are those of `detour get drops`. */
function verdictOf(word: FlowWordFields, chain: ChainModel | undefined): Fields {
  const { FLOW_DROP, FLOW_ALLOW } = abi.FlowAction;
  const { DROP_FP_DROP, DROP_UNRESOLVED, DROP_RULE, DROP_NODE_DOWN } = abi.DropReason;
  const dropped = (why: number): Fields => ({ verdict: 'drop', dropReason: dropName(why) });
  if (word.action === FLOW_ALLOW) return { verdict: 'allow' };
  if (word.action === FLOW_DROP) {
    if (isProgrammed(word)) return dropped(DROP_FP_DROP);
    const unresolved = (word.flags & abi.FlowWordFlag.WORD_FLAG_UNRESOLVED) !== 0;
    return dropped(unresolved ? DROP_UNRESOLVED : DROP_RULE);
  }
  if (word.path !== 0) return { verdict: 'steer' };
  return chain?.onFailure === 'bypass' ? { verdict: 'bypass' } : dropped(DROP_NODE_DOWN);
}

/** Why a flow's record has gone. `pushedOut`: it was not the sweep that removed it. */
export function endReasonOf({ row, word, seen, chain }: FlowFacts, pushedOut: boolean): EndReason {
  if (row.tuple?.proto === PROTO.tcp && hasEnded(seen))
    return (seen & abi.FlowSeen.SEEN_RST) !== 0 ? 'rst' : 'fin';
  if (pushedOut) return 'evicted';
  const path = chain?.paths.find(({ number }) => number === word.path);
  if (word.action === abi.FlowAction.FLOW_STEER && (word.path === 0 || path?.up === false))
    return 'path_down';
  if (word.action === abi.FlowAction.FLOW_DROP) return 'idle'; // nobody was to answer
  return (seen & abi.FlowSeen.SEEN_REPLY) === 0 ? 'unanswered' : 'idle';
}
