// SPDX-License-Identifier: Apache-2.0
/**
 * Arithmetic that operators write: numbers, names, + - * /, parentheses, min(…) and max(…). Which names there are is said by each
 * language that is made of it: scoring formulas, and expressions over an exporter's metrics.
 *
 * An expression is pure and bounded: no loops, no state, at most 1,000 characters and 32 levels of nesting.
 */

/** A parsed expression. */
export type Expression<Name> =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'name'; readonly name: Name }
  | {
      readonly kind: 'operation';
      readonly operator: '+' | '-' | '*' | '/';
      readonly left: Expression<Name>;
      readonly right: Expression<Name>;
    }
  | { readonly kind: 'call'; readonly function: 'min' | 'max'; readonly args: readonly Expression<Name>[] };

export type ExpressionResult<Name> =
  | { readonly ok: true; readonly expression: Expression<Name> }
  | { readonly ok: false; readonly message: string; readonly remedy: string };

/** What a word means, or why it means nothing. */
export type NameResult<Name> =
  | { readonly ok: true; readonly name: Name }
  | { readonly ok: false; readonly message: string; readonly remedy: string };

export interface Language<Name> {
  /** A regular expression, without groups, for words. */
  readonly word: string;
  /** Functions beside min and max; they take one word. */
  readonly wordFunctions: readonly string[];
  /** `by`: the function that the word is given to. */
  readonly read: (word: string, by: string | null) => NameResult<Name>;
}

const MAX_CHARS = 1000;
const MAX_DEPTH = 32;

class ExpressionError extends Error {
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

function readTokens(text: string, token: RegExp): Token[] {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  token.lastIndex = 0;
  while (token.lastIndex < end) {
    const from = token.lastIndex;
    const match = token.exec(text);
    const at = from + (/^\s*/.exec(text.slice(from))?.[0].length ?? 0);
    if (match === null)
      throw new ExpressionError(
        `cannot be read at "${text.slice(at, at + 12).trim()}"`,
        'use numbers, names, + - * / ( ) and functions',
        at,
      );
    if (match[1] !== undefined) tokens.push({ kind: 'number', text: match[1], at });
    else if (match[2] !== undefined) tokens.push({ kind: 'word', text: match[2], at });
    else tokens.push({ kind: 'sign', text: match[3] ?? '', at });
  }
  return [...tokens, { kind: 'end', text: 'its end', at: end }];
}

/** Recursive descent: sum := product ((+|-) product)*, product := factor ((*|/) factor)*. */
class Parser<Name> {
  private at = 0;
  private depth = 0;
  constructor(
    private readonly tokens: readonly Token[],
    private readonly language: Language<Name>,
  ) {}

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
    throw new ExpressionError(message, remedy, this.next().at);
  }

  private expect(sign: string): void {
    if (!this.take(sign))
      this.refuse(`has "${this.next().text}" where "${sign}" belongs`, `write "${sign}" there`);
  }

  whole(): Expression<Name> {
    const whole = this.sum();
    if (this.next().kind !== 'end')
      this.refuse(
        `has "${this.next().text}" where it should end or go on with an operator`,
        'put + - * or / between values',
      );
    return whole;
  }

  private sum(): Expression<Name> {
    if (++this.depth > MAX_DEPTH) this.refuse(`nests deeper than ${MAX_DEPTH} levels`, 'write a simpler one');
    let left = this.product();
    for (;;) {
      const operator = this.take('+') ? '+' : this.take('-') ? '-' : undefined;
      if (operator === undefined) break;
      left = { kind: 'operation', operator, left, right: this.product() };
    }
    this.depth--;
    return left;
  }

  private product(): Expression<Name> {
    let left = this.factor();
    for (;;) {
      const operator = this.take('*') ? '*' : this.take('/') ? '/' : undefined;
      if (operator === undefined) return left;
      left = { kind: 'operation', operator, left, right: this.factor() };
    }
  }

  private factor(): Expression<Name> {
    if (this.take('(')) {
      const inner = this.sum();
      this.expect(')');
      return inner;
    }
    const token = this.next();
    if (token.kind !== 'number' && token.kind !== 'word')
      this.refuse(
        `has "${token.text}" where a value belongs`,
        'write a number, a name, min(…), max(…) or (…) there',
      );
    this.at++;
    return token.kind === 'number' ? { kind: 'number', value: Number(token.text) } : this.word(token);
  }

  private word(token: Token): Expression<Name> {
    const { text } = token;
    if (text === 'min' || text === 'max') {
      this.expect('(');
      const args = [this.sum()];
      while (this.take(',')) args.push(this.sum());
      this.expect(')');
      return { kind: 'call', function: text, args };
    }
    if (!this.language.wordFunctions.includes(text)) return this.name(token, null);
    this.expect('(');
    const inner = this.next();
    if (inner.kind !== 'word') this.refuse(`has "${inner.text}" where a name belongs`, `write ${text}(NAME)`);
    this.at++;
    const named = this.name(inner, text);
    this.expect(')');
    return named;
  }

  private name({ text, at }: Token, by: string | null): Expression<Name> {
    const read = this.language.read(text, by);
    if (!read.ok) throw new ExpressionError(read.message, read.remedy, at);
    return { kind: 'name', name: read.name };
  }
}

/** Parses an expression of a language; never throws. */
export function parseExpression<Name>(text: string, language: Language<Name>): ExpressionResult<Name> {
  if (text.length > MAX_CHARS)
    return { ok: false, message: `is longer than ${MAX_CHARS} characters`, remedy: 'write a simpler one' };
  try {
    const token = new RegExp(`\\s*(?:(\\d+(?:\\.\\d+)?)|(${language.word})|([-+*/(),]))`, 'y');
    return { ok: true, expression: new Parser(readTokens(text, token), language).whole() };
  } catch (error) {
    if (error instanceof ExpressionError) return { ok: false, message: error.message, remedy: error.remedy };
    throw error;
  }
}

/** The value; NaN or an infinity where the names' values give one, as in x / 0. */
export function evaluateExpression<Name>(
  expression: Expression<Name>,
  worthOf: (name: Name) => number,
): number {
  switch (expression.kind) {
    case 'number':
      return expression.value;
    case 'name':
      return worthOf(expression.name);
    case 'call': {
      const values = expression.args.map((arg) => evaluateExpression(arg, worthOf));
      return expression.function === 'min' ? Math.min(...values) : Math.max(...values);
    }
    case 'operation': {
      const left = evaluateExpression(expression.left, worthOf);
      const right = evaluateExpression(expression.right, worthOf);
      if (expression.operator === '+') return left + right;
      if (expression.operator === '-') return left - right;
      return expression.operator === '*' ? left * right : left / right;
    }
  }
}

/** Every name that an expression mentions, as often as it does. */
export function namesIn<Name>(expression: Expression<Name>): Name[] {
  switch (expression.kind) {
    case 'number':
      return [];
    case 'name':
      return [expression.name];
    case 'operation':
      return [...namesIn(expression.left), ...namesIn(expression.right)];
    case 'call':
      return expression.args.flatMap((arg) => namesIn(arg));
  }
}
