// SPDX-License-Identifier: Apache-2.0
/** What a formula is given, and whose word each of it is: for the formula, for people, and for the published score. Pure. */
import type { FormulaAttribute } from '@detour/intent';
import { DEFAULT_STALE_AFTER_MS, isMeasured } from './attributes.js';
import type { Input, NodeReadings } from './inputs.js';

/** Values by name, finite ones only. */
export type Inputs = Readonly<Record<string, number>>;

export interface Given {
  /** As they were declared and measured; those too that the formula does not name. */
  readonly inputs: Inputs;
  /** Of measured inputs that the formula names: what it is given instead. */
  readonly smoothed: Inputs;
  readonly sources: Readonly<Record<string, string>>;
  /** Inputs that the formula has of gateways, sorted. */
  readonly counted: readonly string[];
}

/** Significant decimal digits of what is smoothed: what is published and what is scored here must be the same. */
const DIGITS = 6;

export function givenOf(found: readonly (readonly [FormulaAttribute, Input])[], from: NodeReadings): Given {
  const inputs: Record<string, number> = {};
  const smoothed: Record<string, number> = {};
  const sources: Record<string, string> = {};
  const counted: string[] = [];
  for (const [name, reading] of from.readings) {
    inputs[name] = reading.value;
    sources[name] = reading.reporter;
  }
  for (const name of from.gateways.names()) {
    const { staleAfter } = from.node.attributes.gateways ?? { staleAfter: DEFAULT_STALE_AFTER_MS };
    const merged = from.gateways.merged(name, from.nowMs, staleAfter);
    if (merged === null) continue;
    inputs[name] = merged.value;
    sources[name] = merged.from;
  }
  for (const [name, input] of found) {
    if (input.kind !== 'found' || !Number.isFinite(input.value)) continue;
    inputs[name] = input.value;
    sources[name] = input.from ?? 'nobody';
    if (input.by === 'gateway') counted.push(name);
    if (input.by === 'intent' || input.by === null || !isMeasured(name)) continue;
    const value = from.smoothed(name);
    if (value !== undefined) smoothed[name] = Number(value.toPrecision(DIGITS));
  }
  return { inputs, smoothed, sources, counted: counted.sort() };
}
