// SPDX-License-Identifier: Apache-2.0
/**
 * The language of scoring formulas: numbers, a closed list of attributes, + - * /, parentheses, min(…) and max(…).
 * A formula is pure and bounded: no loops, no state, at most 1,000 characters and 32 levels of nesting.
 */

/** Attributes that a formula may name, each a number. */
export const FORMULA_ATTRIBUTES = [
  'capacity',
  'maxConnections',
  'connections',
  'cpu',
  'memory',
  'rttMs',
  'loss',
  'zoneFactor',
] as const;
export type FormulaAttribute = (typeof FORMULA_ATTRIBUTES)[number];

/** The formula where a document gives none. */
export const DEFAULT_FORMULA =
  'capacity * (1 - max(cpu, memory, connections / maxConnections)) * zoneFactor / (1 + rttMs / 10) * (1 - loss)';

/** A parsed formula. */
export type Formula =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'attribute'; readonly attribute: FormulaAttribute }
  | {
      readonly kind: 'operation';
      readonly operator: '+' | '-' | '*' | '/';
      readonly left: Formula;
      readonly right: Formula;
    }
  | { readonly kind: 'call'; readonly function: 'min' | 'max'; readonly args: readonly Formula[] };

export type FormulaResult =
  | { readonly ok: true; readonly formula: Formula }
  | { readonly ok: false; readonly message: string; readonly remedy: string };

const MAX_CHARS = 1000;
const MAX_DEPTH = 32;
const TOKEN = /\s*(?:(\d+(?:\.\d+)?)|([A-Za-z]\w*)|([-+*/(),]))/y;

class FormulaError extends Error {
  /** `at`: offset of what is wrong. */
  constructor(
    message: string,
    readonly remedy: string,
    at: number,
  ) {
    super(`${message} (character ${at + 1})`);
  }
}

interface Token {
  readonly text: string;
  readonly kind: 'number' | 'word' | 'sign' | 'end';
  readonly at: number;
}

function readTokens(text: string): Token[] {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    const at = from + (/^\s*/.exec(text.slice(from))?.[0].length ?? 0);
    if (match === null)
      throw new FormulaError(
        `cannot be read at "${text.slice(at, at + 12).trim()}"`,
        'use numbers, attributes, + - * / ( ) min and max',
        at,
      );
    if (match[1] !== undefined) tokens.push({ kind: 'number', text: match[1], at });
    else if (match[2] !== undefined) tokens.push({ kind: 'word', text: match[2], at });
    else tokens.push({ kind: 'sign', text: match[3] ?? '', at });
  }
  return [...tokens, { kind: 'end', text: 'its end', at: end }];
}

/** Recursive descent: sum := product ((+|-) product)*, product := factor ((*|/) factor)*. */
class FormulaParser {
  private at = 0;
  private depth = 0;
  constructor(private readonly tokens: readonly Token[]) {}

  private next(): Token {
    return this.tokens[this.at] ?? { kind: 'end', text: 'its end', at: 0 };
  }

  private take(sign: string): boolean {
    const token = this.next();
    if (token.kind !== 'sign' || token.text !== sign) return false;
    this.at++;
    return true;
  }

  private refuse(message: string, remedy: string): never {
    throw new FormulaError(message, remedy, this.next().at);
  }

  private expect(sign: string): void {
    if (!this.take(sign))
      this.refuse(`has "${this.next().text}" where "${sign}" belongs`, `write "${sign}" there`);
  }

  whole(): Formula {
    const formula = this.sum();
    if (this.next().kind !== 'end')
      this.refuse(
        `has "${this.next().text}" where it should end or go on with an operator`,
        'put + - * or / between values',
      );
    return formula;
  }

  private sum(): Formula {
    if (++this.depth > MAX_DEPTH)
      this.refuse(`nests deeper than ${MAX_DEPTH} levels`, 'write a simpler formula');
    let left = this.product();
    for (;;) {
      const operator = this.take('+') ? '+' : this.take('-') ? '-' : undefined;
      if (operator === undefined) break;
      left = { kind: 'operation', operator, left, right: this.product() };
    }
    this.depth--;
    return left;
  }

  private product(): Formula {
    let left = this.factor();
    for (;;) {
      const operator = this.take('*') ? '*' : this.take('/') ? '/' : undefined;
      if (operator === undefined) return left;
      left = { kind: 'operation', operator, left, right: this.factor() };
    }
  }

  private factor(): Formula {
    if (this.take('(')) {
      const inner = this.sum();
      this.expect(')');
      return inner;
    }
    const token = this.next();
    if (token.kind !== 'number' && token.kind !== 'word')
      this.refuse(
        `has "${token.text}" where a value belongs`,
        'write a number, an attribute, min(…), max(…) or (…) there',
      );
    this.at++;
    return token.kind === 'number' ? { kind: 'number', value: Number(token.text) } : this.word(token);
  }

  private word({ text, at }: Token): Formula {
    if (text === 'min' || text === 'max') {
      this.expect('(');
      const args = [this.sum()];
      while (this.take(',')) args.push(this.sum());
      this.expect(')');
      return { kind: 'call', function: text, args };
    }
    const attribute = FORMULA_ATTRIBUTES.find((known) => known === text);
    if (attribute === undefined)
      throw new FormulaError(
        `names the unknown attribute "${text}"`,
        `use ${FORMULA_ATTRIBUTES.join(', ')}`,
        at,
      );
    return { kind: 'attribute', attribute };
  }
}

/** Parses a formula; never throws. */
export function parseFormula(text: string): FormulaResult {
  if (text.length > MAX_CHARS)
    return {
      ok: false,
      message: `is longer than ${MAX_CHARS} characters`,
      remedy: 'write a simpler formula',
    };
  try {
    return { ok: true, formula: new FormulaParser(readTokens(text)).whole() };
  } catch (error) {
    if (error instanceof FormulaError) return { ok: false, message: error.message, remedy: error.remedy };
    throw error;
  }
}

/** The formula's value; NaN or an infinity where the attributes give one, as in x / 0. */
export function evaluateFormula(
  formula: Formula,
  attributes: Readonly<Record<FormulaAttribute, number>>,
): number {
  switch (formula.kind) {
    case 'number':
      return formula.value;
    case 'attribute':
      return attributes[formula.attribute];
    case 'call': {
      const values = formula.args.map((arg) => evaluateFormula(arg, attributes));
      return formula.function === 'min' ? Math.min(...values) : Math.max(...values);
    }
    case 'operation': {
      const left = evaluateFormula(formula.left, attributes);
      const right = evaluateFormula(formula.right, attributes);
      if (formula.operator === '+') return left + right;
      if (formula.operator === '-') return left - right;
      return formula.operator === '*' ? left * right : left / right;
    }
  }
}
