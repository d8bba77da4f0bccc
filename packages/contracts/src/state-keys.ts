// SPDX-License-Identifier: Apache-2.0
// The state bucket: its name, the grammar of its keys (ADR 0002), and the JSON values under them.
// Names are intent names ([a-z0-9-], no dot), so a dot always separates.

/** JetStream KV bucket for all small last-value-wins state; one stream sequence orders it. */
export const STATE_BUCKET = 'detour';
/** JetStream object store for intent revisions, each under its SHA-256. */
export const INTENT_STORE = 'detour-intent';

export const stateKey = {
  intentHead: () => 'intent.head',
  health: (gateway: string, node: string, vrf: string) =>
    `health.${gateway}.${node}.${vrf === '' ? '_' : vrf}`,
  score: (node: string) => `score.${node}`,
  drain: (node: string) => `drain.${node}`,
  gatewayDrain: (gateway: string) => `gateway-drain.${gateway}`,
  instance: (service: ServiceName, id: string) => `instance.${service}.${id}`,
  gateway: (name: string) => `gateway.${name}`,
  alarm: (source: string, code: string, subject: string) =>
    `alarm.${source}.${code}.${subject === '' ? '_' : subject}`,
} as const;

export const SERVICE_NAMES = ['classifier', 'path-selector', 'stats-collector', 'tunnel-gw', 'bfd'] as const;
export type ServiceName = (typeof SERVICE_NAMES)[number];

/** A key taken apart; null for a key that is not of this grammar. */
export type StateKey =
  | { kind: 'intentHead' }
  | { kind: 'health'; gateway: string; node: string; vrf: string }
  | { kind: 'score'; node: string }
  | { kind: 'drain'; node: string }
  | { kind: 'gatewayDrain'; gateway: string }
  | { kind: 'instance'; service: ServiceName; id: string }
  | { kind: 'gateway'; name: string }
  | { kind: 'alarm'; source: string; code: string; subject: string };

export function parseStateKey(key: string): StateKey | null {
  const [kind = '', ...parts] = key.split('.');
  const [x = '', y = '', z = ''] = parts;
  switch (kind) {
    case 'intent':
      return parts.length === 1 && x === 'head' ? { kind: 'intentHead' } : null;
    case 'health':
      return parts.length === 3 ? { kind: 'health', gateway: x, node: y, vrf: z === '_' ? '' : z } : null;
    case 'score':
      return parts.length === 1 ? { kind: 'score', node: x } : null;
    case 'drain':
      return parts.length === 1 ? { kind: 'drain', node: x } : null;
    case 'gateway-drain':
      return parts.length === 1 ? { kind: 'gatewayDrain', gateway: x } : null;
    case 'instance': {
      const service = SERVICE_NAMES.find((name) => name === x);
      return parts.length === 2 && service !== undefined ? { kind: 'instance', service, id: y } : null;
    }
    case 'gateway':
      return parts.length === 1 ? { kind: 'gateway', name: x } : null;
    case 'alarm':
      return parts.length === 3 ? { kind: 'alarm', source: x, code: y, subject: z === '_' ? '' : z } : null;
    default:
      return null;
  }
}

/** intent.head: which revision is in force. Written by compare-and-swap alone. */
export interface IntentHead {
  readonly revision: number;
  readonly sha256: string;
  readonly atMs: number;
  readonly author: string;
  /** W3C trace context of the apply, for the spans of whoever takes the revision; absent when it is not sampled. */
  readonly traceparent?: string;
}

/** health.<gateway>.<node>.<vrf>: a copy for controllers and people; the gateway itself is told by its bfd directly. */
export interface HealthValue {
  readonly state: 'up' | 'down' | 'admin-down' | 'unknown' | 'stale';
  readonly source: string;
  readonly why: string;
  readonly atMs: number;
}

/** score.<node>: what its attributes are worth now. Consumers never age it: a stale node has score 0 here. */
export interface ScoreValue {
  readonly score: number;
  readonly fresh: boolean;
  readonly why: string;
  readonly atMs: number;
  /** The score for gateways of other zones than the node's; absent where the formula names no zoneFactor. */
  readonly otherZone?: number;
  /** Wall clock: since when the node takes new flows without a break; absent while it takes none. */
  readonly sinceMs?: number;
  /** Share of what it is worth that it is given while it starts slowly; absent: all of it. */
  readonly ramp?: number;
  /** Measured inputs of the formula as they were smoothed for it; absent where nothing is smoothed. A successor goes on from them. */
  readonly smoothed?: Readonly<Record<string, number>>;
  /** Inputs of the formula that gateways had measured; absent: none. */
  readonly counted?: readonly string[];
}

/** drain.<node>, gateway-drain.<gateway>: undrain writes false, so that its sequence is seen by everyone. */
export interface DrainValue {
  readonly draining: boolean;
  readonly by: string;
  readonly atMs: number;
}

/** instance.<service>.<id>: written every HEARTBEAT_MS; gone for a watcher that saw none for INSTANCE_EXPIRY_MS by its own clock. */
export interface InstanceValue {
  readonly address: string; // host:port of its gRPC server
  readonly metrics: string; // host:port of its metrics and readiness
  readonly gateway: string; // '' for controllers
  readonly startedMs: number;
  readonly beat: number;
}
export const HEARTBEAT_MS = 1_000;
export const INSTANCE_EXPIRY_MS = 3_500;

/** gateway.<name>: what a gateway runs, for `apply --wait`. */
export interface GatewayValue {
  readonly running: number; // revision, 0 = none
  readonly refused: number; // revision that it could not apply, 0 = none
  readonly why: string;
  readonly atMs: number;
}

/** alarm.<source>.<code>.<subject>: a row of `detour get alarms`; null value once it has cleared. */
export interface AlarmValue {
  readonly text: string;
  readonly sinceMs: number;
  readonly active: boolean;
}

/** NATS subject on which an alarm's rise and fall are published. */
export function alarmSubject(code: string): string {
  return `detour.alarm.${code}`;
}

/** NATS subject on which replicas of the stats-collector tell each other what they saw of a node. */
export function observationSubject(node: string): string {
  return `detour.observation.${node}`;
}
export const OBSERVATION_SUBJECTS = 'detour.observation.*';
