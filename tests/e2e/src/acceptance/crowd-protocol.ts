// SPDX-License-Identifier: Apache-2.0
/** What a side of a crowd and the test that drives it say to each other: one JSON object a line, each request answered once. */
import type { FlowProto, PacketKind } from './crowd-wire.js';

/** Flows `first` to `first + count - 1`. */
export interface FlowRange {
  readonly first: number;
  readonly count: number;
  readonly proto: FlowProto;
}

export interface AskFlows extends FlowRange {
  /** Unanswered at once, at most; default 192. Paces a crowd by what the gateway can set up. */
  readonly window?: number;
  /** After this long a packet counts as unanswered; default 5,000. Nothing is sent twice. */
  readonly giveUpMs?: number;
}

export type CrowdRequest =
  /** A SYN, its SYN-ACK, the ACK (TCP), or a message and its answer (UDP), once per flow. */
  | ({ readonly op: 'open' } & AskFlows)
  /** One message and its answer per flow. */
  | ({ readonly op: 'ask' } & AskFlows)
  /** Messages over all flows in turn, without waiting for answers, until `stop`. */
  | ({ readonly op: 'stream'; readonly pps: number } & FlowRange)
  | { readonly op: 'stop' }
  | { readonly op: 'report' };

export interface AskResult {
  readonly sent: number;
  readonly answered: number;
  /** The first flows that got no answer, at most 20. */
  readonly unanswered: readonly number[];
  readonly tookMs: number;
}

/** Since the side was started. */
export interface CrowdReport {
  readonly sent: Readonly<Record<PacketKind, number>>;
  readonly received: Readonly<Record<PacketKind, number>>;
  readonly corrupt: number;
  /** Of the crowd's addresses, yet nothing that the other side sends. */
  readonly foreign: number;
  /** A message number that had come before, of the same flow. */
  readonly duplicated: number;
  /** A message number below one that had come, of the same flow. */
  readonly reordered: number;
  /** How many packets arrived with which TTL. */
  readonly ttl: Readonly<Record<string, number>>;
  /** Messages without an answer so far. */
  readonly unanswered: number;
  /** Longest time between two answers while streaming, ms. */
  readonly maxGapMs: number;
}

export type CrowdResponse =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: string };
