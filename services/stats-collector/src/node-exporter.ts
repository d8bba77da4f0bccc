// SPDX-License-Identifier: Apache-2.0
/**
 * What the metrics of prometheus-node-exporter say about a node:
 *   connections = node_nf_conntrack_entries
 *   cpu         = 1 - (idle seconds / all seconds) between two scrapes, from node_cpu_seconds_total over all processors
 *   memory      = 1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes
 *   uptime      = node_time_seconds - node_boot_time_seconds
 */
import { isMeasured, type Measured, refuseTimestamp, refuseValue } from './attributes.js';
import type { Sample } from './prometheus-text.js';

const CONNECTIONS = 'node_nf_conntrack_entries';
const CPU = 'node_cpu_seconds_total';
const MEMORY_AVAILABLE = 'node_memory_MemAvailable_bytes';
const MEMORY_TOTAL = 'node_memory_MemTotal_bytes';
const TIME = 'node_time_seconds';
const BOOT = 'node_boot_time_seconds';

/** Metrics that are read; all others are passed over. */
export const WANTED_METRICS: ReadonlySet<string> = new Set([
  CONNECTIONS,
  CPU,
  MEMORY_AVAILABLE,
  MEMORY_TOTAL,
  TIME,
  BOOT,
]);

/** Attributes that this exporter can give: those that a node with `attributes.prometheus` must have. */
export const EXPORTED: readonly Measured[] = ['connections', 'cpu', 'memory', 'uptime'];

/** Processor seconds since boot; what a scrape keeps for the next one. */
export interface CpuCounters {
  readonly idle: number;
  readonly all: number;
}

export interface ExporterReading {
  readonly values: ReadonlyMap<Measured, number>;
  readonly refused: readonly string[];
  /** null when the exporter has no node_cpu_seconds_total. */
  readonly cpu: CpuCounters | null;
}

/** Reads attributes from one scrape. `before` are the counters of the scrape before this one, null at the first. */
export function readAttributes(
  samples: readonly Sample[],
  before: CpuCounters | null,
  nowMs: number,
): ExporterReading {
  const values = new Map<Measured, number>();
  const refused: string[] = [];
  const believed: Sample[] = [];
  for (const sample of samples) {
    const why = sample.timestampMs === null ? null : refuseTimestamp(sample.timestampMs, nowMs);
    if (why === null) believed.push(sample);
    else refused.push(`${sample.name}: ${why}`);
  }
  const take = (name: Measured, value: number | null) => {
    if (value === null) return;
    const why = refuseValue(name, value);
    if (why === null && isMeasured(name)) values.set(name, value);
    else if (why !== null) refused.push(why);
  };
  take('connections', single(believed, CONNECTIONS));
  take(
    'memory',
    combine(believed, MEMORY_AVAILABLE, MEMORY_TOTAL, (free, total) => 1 - free / total),
  );
  take(
    'uptime',
    combine(believed, TIME, BOOT, (time, boot) => time - boot),
  );
  const cpu = readCpu(believed);
  if (cpu !== null && before !== null) take('cpu', cpuShare(before, cpu));
  return { values, refused, cpu };
}

function single(samples: readonly Sample[], name: string): number | null {
  return samples.find((sample) => sample.name === name)?.value ?? null;
}

function combine(
  samples: readonly Sample[],
  left: string,
  right: string,
  how: (left: number, right: number) => number,
): number | null {
  const x = single(samples, left);
  const y = single(samples, right);
  return x === null || y === null ? null : how(x, y);
}

function readCpu(samples: readonly Sample[]): CpuCounters | null {
  let idle = 0;
  let all = 0;
  let seen = false;
  for (const sample of samples) {
    if (sample.name !== CPU) continue;
    seen = true;
    all += sample.value;
    if (sample.labels.get('mode') === 'idle') idle += sample.value;
  }
  return seen ? { idle, all } : null;
}

/** null when no time passed between the scrapes, or the counters were reset by a reboot. */
function cpuShare(before: CpuCounters, after: CpuCounters): number | null {
  const all = after.all - before.all;
  const idle = after.idle - before.idle;
  if (Number.isNaN(all) || Number.isNaN(idle)) return Number.NaN;
  if (all <= 0 || idle < 0) return null;
  return Math.max(0, 1 - idle / all);
}
