// SPDX-License-Identifier: Apache-2.0
/** The text of a document with the positions of its values: YAML in, plain values and line numbers out. */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { MAX_DOCUMENT_CHARS } from './limits.js';
import type { Problem } from './problem.js';

/** Line and column, both from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export type SourceResult =
  | { readonly ok: true; readonly source: Source }
  | { readonly ok: false; readonly problems: Problem[] };

/** A parsed text; `data` is plain JSON-like values. */
export class Source {
  constructor(
    readonly file: string,
    readonly data: unknown,
    private readonly document: Document.Parsed,
    private readonly lines: LineCounter,
  ) {}

  /** Position of the value at a path; of the nearest enclosing value when it is absent. */
  positionOf(path: readonly PropertyKey[]): Position {
    let node = this.resolve(this.document.contents);
    for (const part of path) {
      const inner = this.child(node, part);
      if (inner === undefined) break;
      node = inner;
    }
    return this.at(node?.range?.[0] ?? 0);
  }

  /** Position of a key of the mapping at a path. */
  positionOfKey(path: readonly PropertyKey[], key: string): Position {
    let node = this.resolve(this.document.contents);
    for (const part of path) node = this.child(node, part);
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
      if (isScalar(pair?.key)) return this.at(pair.key.range?.[0] ?? 0);
    }
    return this.positionOf(path);
  }

  private resolve(node: unknown): Node | undefined {
    if (isAlias(node)) return node.resolve(this.document);
    return node === null ? undefined : (node as Node);
  }

  private child(node: Node | undefined, part: PropertyKey): Node | undefined {
    if (isSeq(node)) return typeof part === 'number' ? this.resolve(node.items[part] ?? null) : undefined;
    if (!isMap(node)) return undefined;
    const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(part));
    return this.resolve(pair?.value ?? pair?.key ?? null);
  }

  private at(offset: number): Position {
    const { line, col } = this.lines.linePos(offset);
    return { line, column: col };
  }
}

function syntaxProblem(file: string, position: Position, message: string, remedy: string): Problem {
  return { code: 'yaml_syntax', file, ...position, path: '', value: '', message, remedy };
}

/** Parses one YAML 1.2 document; duplicate keys, several documents and alias bombs are refused. */
export function readSource(text: string, file: string): SourceResult {
  const start = { line: 1, column: 1 };
  if (text.length > MAX_DOCUMENT_CHARS) {
    const message = `the document has ${text.length} characters, more than ${MAX_DOCUMENT_CHARS}`;
    return { ok: false, problems: [syntaxProblem(file, start, message, 'use groups, or fewer rules')] };
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => {
      const { line, col } = lines.linePos(error.pos[0]);
      return syntaxProblem(file, { line, column: col }, error.message, 'correct the YAML there');
    });
    return { ok: false, problems };
  }
  try {
    return { ok: true, source: new Source(file, document.toJS({ maxAliasCount: 100 }), document, lines) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return {
      ok: false,
      problems: [syntaxProblem(file, start, message, 'write the values out instead of aliases')],
    };
  }
}
