// SPDX-License-Identifier: Apache-2.0
/**
 * What the traffic agent and its user say to each other: one JSON object a line, each request answered by the response
 * with its id, in any order. Times are milliseconds of the system's monotonic clock, comparable between processes.
 */

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export type AgentRequest =
  | ({ readonly op: 'tcp-open' } & TcpOpen)
  | { readonly op: 'tcp-report'; readonly group: number }
  | { readonly op: 'tcp-close'; readonly group: number; readonly how: 'fin' | 'rst' }
  | ({ readonly op: 'http-get' } & HttpGet)
  | ({ readonly op: 'udp-start' } & UdpStart)
  | { readonly op: 'udp-stop'; readonly group: number; readonly settleMs: number };

export interface TcpOpen {
  readonly count: number;
  /** Taken in turn. */
  readonly localAddresses: readonly string[];
  readonly remote: Endpoint;
  /** Connects under way at once; default 256. */
  readonly concurrency?: number;
  /** Per connect; default 5,000. */
  readonly timeoutMs?: number;
  /** Each connection sends a numbered message this often and expects it back; 0 or absent: it stays silent. */
  readonly intervalMs?: number;
}

export interface TcpOpened {
  readonly group: number;
  readonly opened: number;
  /** Connects that failed, by error code (`ECONNREFUSED`, `ETIMEDOUT`, …). */
  readonly failed: Readonly<Record<string, number>>;
}

export interface TcpConnectionReport {
  readonly localAddress: string;
  readonly localPort: number;
  readonly isOpen: boolean;
  /** Error code of a connection that broke. */
  readonly error?: string;
  readonly sent: number;
  readonly received: number;
  /** Longest time between two messages that came back (or from the last one until now). */
  readonly maxGapMs: number;
  /** A message came back out of order or altered; TCP excludes it unless something rewrites the stream. */
  readonly corrupt: boolean;
}

export interface TcpReport {
  readonly connections: readonly TcpConnectionReport[];
}

export interface HttpGet {
  readonly remote: Endpoint;
  readonly path: string;
  readonly localAddress?: string;
  readonly localPort?: number;
  /** Default 3,000. */
  readonly timeoutMs?: number;
}

export type HttpResult =
  | {
      readonly ok: true;
      readonly status: number;
      readonly body: string;
      readonly localPort: number;
      readonly tookMs: number;
    }
  | { readonly ok: false; readonly error: string; readonly tookMs: number };

export interface UdpStart {
  readonly remote: Endpoint;
  readonly localAddresses: readonly string[];
  /** Sockets, each with a port of its own; default 1. */
  readonly flows?: number;
  /** Packets per second over all flows, at most 50,000. */
  readonly pps: number;
  /** UDP payload, at least 20; default 64. */
  readonly sizeBytes?: number;
}

export interface UdpStarted {
  readonly group: number;
  readonly localPorts: readonly Endpoint[];
}

export interface UdpOutage {
  readonly lost: number;
  /** When the last packet before it was sent. */
  readonly startMs: number;
  /** From the sending of the last packet that came back before it to that of the first one after it. */
  readonly lenMs: number;
}

export interface UdpReport {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Packets that came back after one that was sent later on the same flow. */
  readonly reordered: number;
  /** Runs of lost packets, the longest first, at most 100. */
  readonly outages: readonly UdpOutage[];
  /** Packets that this machine's own receive buffers dropped meanwhile: loss of the measurement, not of the path. */
  readonly receiveBufferErrors: number;
}

export type AgentResponse =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: string };
