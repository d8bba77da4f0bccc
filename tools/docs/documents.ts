// SPDX-License-Identifier: Apache-2.0
// The project's Markdown as data: documents, fenced blocks, tables, inline code, links, anchors. As much Markdown as these pages use.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The checkout, with a slash at its end. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

export interface Block {
  /** What stands behind the opening fence. */
  readonly kind: string;
  readonly text: string;
  /** Line of the fence, from 1. */
  readonly line: number;
}

export interface Document {
  /** From the checkout's root. */
  readonly path: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** The text without fenced blocks. */
  readonly prose: string;
}

/** Files that git knows or would take, from the checkout's root, that match one of the patterns (git's own). */
export function trackedFiles(...patterns: readonly string[]): string[] {
  const given = ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate', ...patterns];
  return execFileSync('git', given, { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean);
}

export function readDocument(path: string): Document {
  const text = readFileSync(root + path, 'utf8');
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { kind: string; line: number; lines: string[] } | null = null;
  for (const [i, line] of text.split('\n').entries()) {
    const fence = /^```(\S*)\s*$/.exec(line);
    if (open === null && fence !== null) open = { kind: fence[1] ?? '', line: i + 1, lines: [] };
    else if (open !== null && fence !== null) {
      blocks.push({ kind: open.kind, line: open.line, text: `${open.lines.join('\n')}\n` });
      open = null;
    } else (open === null ? prose : open.lines).push(line);
  }
  if (open !== null) throw new Error(`${path}:${open.line}: a code block without an end`);
  return { path, text, blocks, prose: prose.join('\n') };
}

/** All Markdown of the project. */
export function allDocuments(): Document[] {
  return trackedFiles('*.md').map(readDocument);
}

/** The documents whose every block and command is checked. */
export function checkedDocuments(): Document[] {
  const pages = trackedFiles(
    'README.md',
    'ARCHITECTURE.md',
    'STYLE.md',
    'CONTRIBUTING.md',
    'docs/*.md',
    'services/*/README.md',
  );
  return [...new Set([...pages, 'cli/README.md'])]
    .filter((path) => !path.startsWith('docs/adr/') && path !== 'docs/acceptance.md')
    .map(readDocument);
}

/** Rows of the first table behind a text, without its head; cells trimmed. @throws Error when there is none. */
export function tableAfter(document: Document, mark: string): string[][] {
  const at = document.text.indexOf(mark);
  const lines = document.text.slice(at).split('\n');
  const first = lines.findIndex((line) => line.startsWith('|'));
  if (at < 0 || first < 0) throw new Error(`${document.path} has no table behind "${mark}"`);
  const length = lines.slice(first).findIndex((line) => !line.startsWith('|'));
  const rows = lines.slice(first + 2, length < 0 ? undefined : first + length);
  return rows.map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** What stands in backticks in a text. */
export function codeIn(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, code]) => code ?? '');
}

/** Targets of links. */
export function linksIn({ prose }: Document): string[] {
  return [...prose.replace(/`[^`\n]*`/g, '').matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? '');
}

/** Anchors that headings make, as GitHub makes them. */
export function anchorsOf({ prose }: Document): Set<string> {
  const headings = [...prose.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading ?? '');
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}
