// SPDX-License-Identifier: Apache-2.0
/**
 * Where each input of a scoring formula comes from, and whether it may still be believed. Pure.
 *
 * Declared ones (capacity, maxConnections) are in the intent. `zoneFactor` is 1: the
 * score is that for the node's own zone, and the one for gateways of other zones is published beside it.
 * A measured one that is missing counts as 0 only when the operator's document names no source of it, and the note says so.
 */
import type { FormulaAttribute, ServiceNode } from '@detour/intent';
import { DEFAULT_STALE_AFTER_MS, type Measured, type Reading, type Source } from './attributes.js';
import { type GatewayReadings, isConnection } from './gateway-readings.js';
import { EXPORTED } from './node-exporter.js';

export interface NodeReadings {
  readonly node: ServiceNode;
  readonly readings: ReadonlyMap<Measured, Reading>;
  /** Monotonic ms: now, and since when this collector has looked after the node. */
  readonly nowMs: number;
  readonly watchedSinceMs: number;
  /** zoneFactor for gateways of other zones than the node's. */
  readonly otherZoneFactor: number;
  readonly gateways: Pick<GatewayReadings, 'merged' | 'lastMs' | 'names'>;
  /** What counts instead of a sample; undefined: the sample itself. */
  readonly smoothed: (name: Measured) => number | undefined;
  /** What gateways had measured of it when its score was published: of these a collector that has just started waits for a word. */
  readonly counted: readonly string[];
}

/** `waiting`: a source that the document names has not spoken yet and may still do so. `dueMs`: monotonic, when that changes. */
export type Input =
  | {
      readonly kind: 'found';
      readonly value: number;
      readonly note: string | null;
      readonly dueMs: number | null;
      /** Whose word it is, for people; null: nobody's, it counts as 0. */
      readonly from: string | null;
      readonly by: 'intent' | Source | null;
    }
  | { readonly kind: 'waiting' | 'stale'; readonly note: string; readonly dueMs: number };

interface NamedSource {
  readonly name: string;
  readonly staleAfterMs: number;
}

const REPORTS = 'reports';

/** One attribute that a formula names. */
export function findInput(attribute: FormulaAttribute, from: NodeReadings): Input {
  const { node } = from;
  switch (attribute) {
    case 'capacity':
      return declared(node.capacity, null);
    case 'maxConnections':
      return node.maxConnections === undefined
        ? declared(Number.POSITIVE_INFINITY, 'maxConnections is not declared: no limit')
        : declared(node.maxConnections, null);
    case 'zoneFactor':
      return declared(1, null);
    default:
      return findMeasured(attribute, from);
  }
}

/** A node with `attributes.report` must be reported on, whatever the formula names; null where the document asks for no report. */
export function findReport({ node, readings, nowMs, watchedSinceMs }: NodeReadings): Input | null {
  const { report } = node.attributes;
  if (report === undefined) return null;
  const times = [...readings.values()].flatMap((reading) =>
    reading.source === 'report' ? [reading.atMs] : [],
  );
  const lastMs = times.length === 0 ? null : Math.max(...times);
  const dueMs = (lastMs ?? watchedSinceMs) + report.staleAfter;
  if (nowMs <= dueMs)
    return lastMs === null
      ? { kind: 'waiting', note: 'no report yet', dueMs }
      : { kind: 'found', value: lastMs, note: null, dueMs, from: null, by: 'report' };
  const what = lastMs === null ? 'no report came' : 'no report came any more';
  return { kind: 'stale', note: `${what} within staleAfter ${report.staleAfter} ms`, dueMs };
}

function declared(value: number, note: string | null): Input {
  return { kind: 'found', value, note, dueMs: null, from: 'the intent', by: 'intent' };
}

function findMeasured(attribute: Measured, from: NodeReadings): Input {
  const { node, nowMs, watchedSinceMs } = from;
  const reading = from.readings.get(attribute);
  const source = sourceOf(attribute, node, reading);
  const byGateways = source === null || (source.name === REPORTS && node.attributes.gateways !== undefined);
  const merged = byGateways ? findMerged(attribute, from) : null;
  if (merged !== null) return merged;
  const staleAfterMs = source?.staleAfterMs ?? DEFAULT_STALE_AFTER_MS;
  const dueMs = (reading?.atMs ?? watchedSinceMs) + staleAfterMs;
  const inTime = nowMs <= dueMs;
  if (reading !== undefined && inTime)
    return {
      kind: 'found',
      value: reading.value,
      note: null,
      dueMs,
      from: reading.reporter,
      by: reading.source,
    };
  if (source === null) {
    const note = `${attribute} is not measured and no source is declared: counts as 0`;
    return { kind: 'found', value: 0, note, dueMs: null, from: null, by: null };
  }
  if (inTime) return { kind: 'waiting', note: `no ${attribute} from ${source.name} yet`, dueMs };
  const what = reading === undefined ? 'came' : 'came any more';
  return {
    kind: 'stale',
    note: `no ${attribute} ${what} from ${source.name} within staleAfter ${staleAfterMs} ms`,
    dueMs,
  };
}

/** What gateways measured; null where none did and the document does not say that they must. */
function findMerged(attribute: Measured, from: NodeReadings): Input | null {
  if (!isConnection(attribute)) return null;
  const { gateways, nowMs, watchedSinceMs, counted } = from;
  const asked = from.node.attributes.gateways;
  const staleAfterMs = asked?.staleAfter ?? DEFAULT_STALE_AFTER_MS;
  const merged = gateways.merged(attribute, nowMs, staleAfterMs);
  if (merged !== null)
    return {
      kind: 'found',
      value: merged.value,
      note: null,
      dueMs: merged.dueMs,
      from: merged.from,
      by: 'gateway',
    };
  const lastMs = gateways.lastMs(attribute);
  const dueMs = (lastMs ?? watchedSinceMs) + staleAfterMs;
  if (nowMs <= dueMs && (asked !== undefined || counted.includes(attribute)))
    return { kind: 'waiting', note: `no ${attribute} from gateways yet`, dueMs };
  if (asked === undefined) return null;
  const what = lastMs === null ? 'came' : 'came any more';
  const note = `no ${attribute} ${what} from gateways within staleAfter ${staleAfterMs} ms`;
  return { kind: 'stale', note, dueMs };
}

function isExported(
  attribute: Measured,
  { metrics }: NonNullable<ServiceNode['attributes']['prometheus']>,
): boolean {
  return metrics === undefined ? EXPORTED.includes(attribute) : Object.hasOwn(metrics, attribute);
}

/** The source that the document names for an attribute; null when it names none. */
function sourceOf(attribute: Measured, node: ServiceNode, reading: Reading | undefined): NamedSource | null {
  const { prometheus, report } = node.attributes;
  if (report !== undefined && reading?.source === 'report')
    return { name: REPORTS, staleAfterMs: report.staleAfter };
  if (prometheus !== undefined && reading?.source !== 'report' && isExported(attribute, prometheus))
    return { name: prometheus.url, staleAfterMs: prometheus.staleAfter };
  return null;
}
