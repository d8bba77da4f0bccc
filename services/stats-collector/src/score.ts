// SPDX-License-Identifier: Apache-2.0
/** What a node is worth now: its scoring formula over its inputs, or why it is worth nothing. Pure. */
import {
  evaluateFormula,
  FORMULA_ATTRIBUTES,
  type Formula,
  type FormulaAttribute,
  namesIn,
} from '@detour/intent';
import { roundScore } from '@detour/tables';
import { type Given, givenOf } from './given.js';
import { findInput, findReport, type Input, type NodeReadings } from './inputs.js';

/** `pending`: a named source has not spoken yet; nothing is published until it does or `dueMs` (monotonic) has passed. */
export type Evaluation =
  | (Given & { readonly kind: 'pending'; readonly why: string; readonly dueMs: number })
  | (Given & {
      readonly kind: 'scored';
      readonly score: number;
      /** For gateways of other zones than the node's; null where the formula names no zoneFactor. */
      readonly otherZone: number | null;
      readonly fresh: boolean;
      /** What raises an alarm: an input that is too old, or a formula without a result. */
      readonly fault: { readonly code: 'node_stale' | 'score_invalid'; readonly text: string } | null;
      readonly why: string;
      /** When the next input becomes too old; null when none can. */
      readonly dueMs: number | null;
    });

export function evaluateNode(formula: Formula, from: NodeReadings): Evaluation {
  const named = new Set(namesIn(formula));
  const found = FORMULA_ATTRIBUTES.filter((name) => named.has(name)).map(
    (name) => [name, findInput(name, from)] as const,
  );
  const report = findReport(from);
  const all = [...found.map(([, input]) => input), ...(report === null ? [] : [report])];
  const given = givenOf(found, from);
  const stale = all.flatMap((input) => (input.kind === 'stale' ? [input.note] : []));
  if (stale.length > 0) return worthNothing('node_stale', stale.join('; '), given);
  const waiting = all.flatMap((input) => (input.kind === 'waiting' ? [input] : []));
  if (waiting.length > 0) {
    const dueMs = Math.min(...waiting.map((input) => input.dueMs));
    return { ...given, kind: 'pending', why: waiting.map((input) => input.note).join('; '), dueMs };
  }
  const { otherZoneFactor } = from;
  return scoreOf(formula, { node: from.node.name, found, all, given, otherZoneFactor });
}

interface Complete {
  readonly node: string;
  readonly found: readonly (readonly [FormulaAttribute, Input])[];
  readonly all: readonly Input[];
  readonly given: Given;
  readonly otherZoneFactor: number;
}

function scoreOf(formula: Formula, { node, found, all, given, otherZoneFactor }: Complete): Evaluation {
  const values = Object.fromEntries(FORMULA_ATTRIBUTES.map((name) => [name, 0])) as Record<
    FormulaAttribute,
    number
  >;
  for (const [name, input] of found)
    if (input.kind === 'found') values[name] = given.smoothed[name] ?? input.value;
  const dues = all.flatMap((input) => (input.dueMs === null ? [] : [input.dueMs]));
  const notes = all.flatMap((input) => (input.note === null ? [] : [input.note]));
  const dueMs = dues.length === 0 ? null : Math.min(...dues);
  const raw = evaluateFormula(formula, values);
  if (!Number.isFinite(raw))
    return {
      ...worthNothing(
        'score_invalid',
        `the formula gives ${raw} for node ${node}: change it or declare its inputs`,
        given,
      ),
      dueMs,
    };
  if (raw < 0) notes.push(`the formula gives ${raw}: clamped to 0`);
  const score = roundScore(raw);
  const far = evaluateFormula(formula, { ...values, zoneFactor: otherZoneFactor });
  const zoned = found.some(([name]) => name === 'zoneFactor') && Number.isFinite(far);
  const otherZone = zoned ? roundScore(far) : null;
  const why = notes.join('; ');
  return { ...given, kind: 'scored', score, otherZone, fresh: true, fault: null, why, dueMs };
}

function worthNothing(code: 'node_stale' | 'score_invalid', text: string, given: Given) {
  return {
    ...given,
    kind: 'scored',
    score: 0,
    otherZone: null,
    fresh: false,
    fault: { code, text },
    why: text,
    dueMs: null,
  } as const;
}
