// SPDX-License-Identifier: Apache-2.0
/** What can be measured about a node, in which bounds a value is believed, and for how long. */

/** Measured attributes. Declared ones (capacity, maxConnections, zone) come from the intent alone. */
export const MEASURED = [
  'connections',
  'cpu',
  'memory',
  'rttMs',
  'loss',
  'uptime',
  'flows',
  'bytesPerSecond',
  'dropsPerSecond',
  'retransmissions',
  'cores',
  'memoryBytes',
] as const;
export type Measured = (typeof MEASURED)[number];

interface Bounds {
  readonly min: number;
  readonly max: number;
  readonly unit: string;
}

/** The largest values that a real machine can have; what is beyond is garbage (LB-12). */
export const BOUNDS: Readonly<Record<Measured, Bounds>> = {
  connections: { min: 0, max: 1e9, unit: 'connections' },
  cpu: { min: 0, max: 1, unit: 'share' },
  memory: { min: 0, max: 1, unit: 'share' },
  rttMs: { min: 0, max: 60_000, unit: 'ms' },
  loss: { min: 0, max: 1, unit: 'share' },
  uptime: { min: 0, max: 3.2e9, unit: 's' },
  flows: { min: 0, max: 1e9, unit: 'flows' },
  bytesPerSecond: { min: 0, max: 1e12, unit: 'bytes/s' },
  dropsPerSecond: { min: 0, max: 1e10, unit: 'packets/s' },
  retransmissions: { min: 0, max: 1, unit: 'share' },
  cores: { min: 1, max: 65_536, unit: 'cores' },
  memoryBytes: { min: 1, max: 1e16, unit: 'bytes' },
};

/** How far ahead of our wall clock a timestamp may be before it is refused. */
export const MAX_AHEAD_MS = 10_000;
/** How long a value is good for where the operator's document names no source of it. */
export const DEFAULT_STALE_AFTER_MS = 15_000;
/** Most attributes that one report may carry. */
export const MAX_REPORTED = 64;

export function isMeasured(name: string): name is Measured {
  return MEASURED.some((known) => known === name);
}

/** null when the value is believed; otherwise the sentence that refuses it by name. */
export function refuseValue(name: string, value: number): string | null {
  if (name === 'capacity' || name === 'maxConnections' || name === 'zone')
    return `${name}: it is declared in the intent and cannot be reported`;
  if (!isMeasured(name)) return `${name}: unknown attribute; known are ${MEASURED.join(', ')}`;
  const { min, max, unit } = BOUNDS[name];
  if (Number.isFinite(value) && value >= min && value <= max) return null;
  return `${name}: ${value} is outside ${min}..${max} (${unit})`;
}

function refuseName(name: string, known: readonly string[]): string | null {
  return known.includes(name)
    ? null
    : `${name}: that is not for a gateway to measure; it may report ${known.join(', ')}`;
}

/** null when a report's wall-clock time is believed. */
export function refuseTimestamp(atMs: number, nowMs: number): string | null {
  if (!Number.isFinite(atMs) || atMs < 0) return `timestamp: ${atMs} is no time in ms since 1970`;
  const aheadMs = atMs - nowMs;
  if (aheadMs <= MAX_AHEAD_MS) return null;
  return `timestamp: ${atMs} is ${Math.round(aheadMs)} ms in the future; check the reporter's clock`;
}

/** One believed value. `atMs` is the collector's monotonic clock, so that no other machine's clock decides about freshness. */
export interface Reading {
  readonly value: number;
  readonly atMs: number;
  readonly source: 'prometheus' | 'report';
  readonly reporter: string;
}

/** Whose word values are: of the node's exporter, of the node or an agent for it, of a gateway that measured the node. */
export type Source = Reading['source'] | 'gateway';

/** The believed part of a report, and a sentence for each value that was refused. */
export interface Sifted {
  readonly values: ReadonlyMap<Measured, number>;
  readonly refused: readonly string[];
}

/** Takes the values that are believed, refuses the others by name. `known`: names that this reporter may say something of. */
export function siftAttributes(
  entries: Iterable<readonly [string, number]>,
  known: readonly string[] = MEASURED,
): Sifted {
  const values = new Map<Measured, number>();
  const refused: string[] = [];
  let seen = 0;
  for (const [name, value] of entries) {
    if (++seen > MAX_REPORTED) {
      refused.push(`report: more than ${MAX_REPORTED} attributes; the rest was not read`);
      break;
    }
    const why = refuseValue(name, value) ?? refuseName(name, known);
    if (why !== null) refused.push(why.slice(0, 200));
    else if (isMeasured(name)) values.set(name, value);
  }
  return { values, refused };
}
