// SPDX-License-Identifier: Apache-2.0
/** The language of scoring formulas: arithmetic over a closed list of attributes. */
import { type Expression, evaluateExpression, type Language, parseExpression } from './expression.js';

/** Attributes that a formula may name, each a number. */
export const FORMULA_ATTRIBUTES = [
  'capacity',
  'maxConnections',
  'connections',
  'cpu',
  'memory',
  'rttMs',
  'loss',
  'flows',
  'bytesPerSecond',
  'dropsPerSecond',
  'retransmissions',
  'zoneFactor',
] as const;
export type FormulaAttribute = (typeof FORMULA_ATTRIBUTES)[number];

/** Those that gateways measure of a node: the connection family. */
export const CONNECTION_ATTRIBUTES = [
  'rttMs',
  'loss',
  'flows',
  'bytesPerSecond',
  'dropsPerSecond',
  'retransmissions',
] as const;
export type ConnectionAttribute = (typeof CONNECTION_ATTRIBUTES)[number];

/** Those that an exporter's metrics may stand for. */
export const MEASURED_ATTRIBUTES = ['connections', 'cpu', 'memory', 'rttMs', 'loss'] as const;

/** The formula where a document gives none. */
export const DEFAULT_FORMULA =
  'capacity * (1 - max(cpu, memory, connections / maxConnections)) * zoneFactor / (1 + rttMs / 10) * (1 - loss)';

/** A parsed formula. */
export type Formula = Expression<FormulaAttribute>;

export type FormulaResult =
  | { readonly ok: true; readonly formula: Formula }
  | { readonly ok: false; readonly message: string; readonly remedy: string };

const FORMULAS: Language<FormulaAttribute> = {
  word: '[A-Za-z]\\w*',
  wordFunctions: [],
  read: (word) => {
    const name = FORMULA_ATTRIBUTES.find((known) => known === word);
    if (name !== undefined) return { ok: true, name };
    const remedy = `use ${FORMULA_ATTRIBUTES.join(', ')}`;
    return { ok: false, message: `names the unknown attribute "${word}"`, remedy };
  },
};

/** Parses a formula; never throws. */
export function parseFormula(text: string): FormulaResult {
  const parsed = parseExpression(text, FORMULAS);
  return parsed.ok ? { ok: true, formula: parsed.expression } : parsed;
}

/** The formula's value; NaN or an infinity where the attributes give one, as in x / 0. */
export function evaluateFormula(
  formula: Formula,
  attributes: Readonly<Record<FormulaAttribute, number>>,
): number {
  return evaluateExpression(formula, (name) => attributes[name]);
}
