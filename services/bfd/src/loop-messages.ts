// SPDX-License-Identifier: Apache-2.0
// What passes between the main thread and the timing thread: orders one way, health, rows and events the other.

import type { BfdState, SessionTimers } from '@detour/wire';
import type { EchoTimers } from './echo-logic.js';
import type { Health } from './health.js';
import type { ProbeFigures } from './probe-log.js';

/** A session that must run; addresses in canonical text (RFC 5952). */
export interface SessionSpec {
  /** node; of an end that is one of two on this machine, node/vrf/end; of a router, router/device/address. */
  readonly id: string;
  /** '': a router's. */
  readonly node: string;
  /** '' when the session speaks for all VRFs of the node. */
  readonly vrf: string;
  readonly device: string;
  readonly local: string;
  /** Where its packets go. */
  readonly peer: string;
  /** Where the other end's come from: `peer`, except through a pair, where each end sends to its own next hop. */
  readonly hears: string;
  /** Through a node that routes (RFC 5883): packets go to this address by way of `peer`, to port 4784, and any TTL is taken. */
  readonly multihop: { readonly to: string } | null;
  /** Which end of a session whose ends are both on this machine, with a node between them; null: the peer is elsewhere. */
  readonly end: 'a' | 'b' | null;
  readonly timers: SessionTimers;
  readonly echo: EchoTimers | null;
  /** No daemon speaks BFD there (gwlb): no control packets are sent and none are missed. */
  readonly noControl?: true;
  /** A TCP port that must take connections as well. */
  readonly tcp?: TcpCheckSpec;
  /** Routes by the session's device that must be in a routing table as well: what the node advertises. */
  readonly route?: RouteCheckSpec;
}

/** Prefixes in canonical text. */
export interface RouteCheckSpec {
  readonly table: number;
  readonly prefixes: readonly string[];
}

/** What the tables say; unknown until they have been read. `why` is for people, '' unless down. */
export interface RouteState {
  readonly state: 'unknown' | 'up' | 'down';
  readonly why: string;
}

/** What the main thread has found out about a session's node, beside the timing thread's own probes. */
export interface Findings {
  readonly tcp?: TcpState;
  readonly route?: RouteState;
}

/** Connections to a port of the node, from the main thread. */
export interface TcpCheckSpec {
  readonly address: string;
  readonly port: number;
  readonly everyMs: number;
  readonly multiplier: number;
}

/** What the connections say; unknown until the first has been answered or enough have failed. */
export type TcpState = 'unknown' | 'up' | 'down';

/** Orders to the timing thread. */
export type LoopOrder =
  /** `partial`: there are more, which are not known yet. */
  | { readonly kind: 'sessions'; readonly specs: readonly SessionSpec[]; readonly partial?: true }
  | { readonly kind: 'admin'; readonly id: string; readonly down: boolean; readonly ask: number }
  | { readonly kind: 'found'; readonly id: string; readonly findings: Findings }
  | { readonly kind: 'list'; readonly ask: number }
  | { readonly kind: 'measure'; readonly ask: number }
  | { readonly kind: 'stop' };

/** A session's health from `atMonoNs` on (CLOCK_MONOTONIC). */
export interface HealthRow extends Health {
  readonly id: string;
  readonly node: string;
  readonly vrf: string;
  readonly end: 'a' | 'b' | null;
  readonly atMonoNs: bigint;
  readonly detectTimeUs: number;
}

/** What a session's packets through the node measured; of one with both ends here, in the direction from this end to the other. */
export interface MeasuredRow extends ProbeFigures {
  readonly node: string;
  readonly vrf: string;
  readonly end: 'a' | 'b' | null;
}

/** One session in full; microseconds, counts since the session began. */
export interface SessionRow {
  readonly spec: SessionSpec;
  readonly state: BfdState;
  readonly remoteState: BfdState;
  readonly localDiscr: number;
  readonly remoteDiscr: number;
  readonly diag: number;
  readonly remoteDiag: number;
  readonly txIntervalUs: number;
  readonly remoteMinRxUs: number;
  readonly remoteMinTxUs: number;
  readonly remoteDetectMult: number;
  readonly detectTimeUs: number;
  readonly echoState: 'down' | 'init' | 'up' | null;
  readonly echoDetectTimeUs: number;
  readonly echoRttUs: number | null;
  /** Null when the health profile asks for no routes. */
  readonly route: RouteState | null;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly echoIn: number;
  readonly echoOut: number;
  readonly sendErrors: number;
  readonly ups: number;
  readonly downs: number;
  readonly health: Health;
}

/** What the timing thread tells. */
export type LoopReport =
  /** Sent once: the file descriptor (an eventfd) whose writing wakes the thread for orders. */
  | { readonly kind: 'started'; readonly wakeFd: number; readonly realtime: boolean }
  /** The whole set of sessions was taken over: these are all. */
  | { readonly kind: 'snapshot'; readonly rows: readonly HealthRow[] }
  | { readonly kind: 'health'; readonly rows: readonly HealthRow[] }
  | {
      readonly kind: 'event';
      readonly id: string;
      readonly probe: 'control' | 'echo';
      readonly from: BfdState;
      readonly to: BfdState;
      readonly diag: number;
    }
  | {
      readonly kind: 'listed';
      readonly ask: number;
      readonly rows: readonly SessionRow[];
      readonly refused: Readonly<Record<string, number>>;
    }
  | { readonly kind: 'measured'; readonly ask: number; readonly rows: readonly MeasuredRow[] }
  | { readonly kind: 'admin-done'; readonly ask: number; readonly found: boolean };
