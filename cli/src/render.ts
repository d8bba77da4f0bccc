// SPDX-License-Identifier: Apache-2.0
/** How answers are shown: tables for people, JSON and YAML for programs. */
import { stringify } from 'yaml';

/** Output formats of `-o`. */
export const FORMATS = ['table', 'json', 'yaml'] as const;
export type Format = (typeof FORMATS)[number];

type Cell = string | number | boolean | bigint | null | undefined | readonly string[];

/** A column of a table: its heading, and what it shows of a row. */
export type Column<Row> = readonly [heading: string, cell: (row: Row) => Cell];

/** Something to show: rows for programs, and their table for people. */
export interface View {
  readonly data: unknown;
  readonly table: string;
}

function cellText(cell: Cell): string {
  if (cell === null || cell === undefined || cell === '') return '-';
  if (cell === true) return 'yes';
  if (cell === false) return 'no';
  const text = typeof cell === 'object' ? cell.join(', ') : String(cell);
  // A control character in a name or a message must not drive the terminal.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
  return clean === '' ? '-' : clean;
}

/** Columns of equal width, two spaces apart; numbers to the right. No rows: one line that says so. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  none = 'none',
): string {
  if (rows.length === 0) return `${none}\n`;
  const cells = rows.map((row) => columns.map(([, cell]) => cell(row)));
  const isNumber = columns.map((_, i) =>
    cells.every((line) => ['number', 'bigint', 'undefined'].includes(typeof line[i]) || line[i] === null),
  );
  const lines = [columns.map(([heading]) => heading), ...cells.map((line) => line.map(cellText))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const pad = (text: string, i: number): string =>
    isNumber[i] === true ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0);
  return lines.map((line) => `${line.map(pad).join('  ').trimEnd()}\n`).join('');
}

/** A list as a view. */
export function viewRows<Row>(rows: readonly Row[], columns: readonly Column<Row>[], none?: string): View {
  return { data: rows, table: renderTable(columns, rows, none) };
}

/** Plain JSON: 64-bit counters as numbers, as text where a number would lose digits. */
export function toJson(value: unknown): string {
  const replace = (_key: string, inner: unknown): unknown => {
    if (typeof inner === 'bigint')
      return inner <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(inner) : inner.toString();
    if (inner instanceof Uint8Array) return Buffer.from(inner).toString('hex');
    return inner;
  };
  return JSON.stringify(value, replace, 2);
}

/** The view's text in a format, with a newline at its end. */
export function render(view: View, format: Format): string {
  if (format === 'table') return view.table;
  const json = toJson(view.data);
  return format === 'json' ? `${json}\n` : stringify(JSON.parse(json), { lineWidth: 120 });
}

/** 90061000 → `1d 1h`; the two largest units. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 1) return `${Math.max(0, Math.round(ms))}ms`;
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}${unit}`).join(' ');
}
