// SPDX-License-Identifier: Apache-2.0
// Figures as a table for people and as results/latest.json for programs; a partial run replaces only its own rows there.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure } from './figure.js';

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url));
const LATEST = `${RESULTS}latest.json`;
const README = fileURLToPath(new URL('../README.md', import.meta.url));
const MARK_BEGIN = '<!-- figures: made by `node bench/dist/main.js --readme` -->';
const MARK_END = '<!-- figures end -->';

/** Puts figures beside those of earlier runs, by name; returns the file's path. */
export function saveFigures(figures: readonly Figure[]): string {
  mkdirSync(RESULTS, { recursive: true });
  const fresh = new Set(figures.map(({ name }) => name));
  const kept = readFigures().filter(({ name }) => !fresh.has(name));
  writeFileSync(LATEST, `${JSON.stringify([...kept, ...figures], null, 2)}\n`);
  return LATEST;
}

/** What the last runs measured. */
export function readFigures(): Figure[] {
  return existsSync(LATEST) ? (JSON.parse(readFileSync(LATEST, 'utf8')) as Figure[]) : [];
}

const HEAD = ['figure', 'value', 'baseline', 'ratio', 'spread', 'runs', 'goal', ''] as const;

function cells(figure: Figure): string[] {
  return [
    figure.name,
    formatQuantity(figure.value, figure.unit),
    figure.baseline === undefined ? '' : formatQuantity(figure.baseline, figure.unit),
    figure.ratio === undefined ? '' : figure.ratio.toFixed(2),
    `± ${(figure.spread * 100).toFixed(0)} %`,
    String(figure.runs),
    figure.goal ?? '',
    figure.met === undefined ? '' : figure.met ? 'met' : 'missed',
  ];
}

/** A table in columns, for a terminal. */
export function tableText(figures: readonly Figure[]): string {
  const rows = [[...HEAD], ...figures.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Three significant digits, with the unit scaled: 1,234,567 /s is 1.23 M/s. */
export function formatQuantity(value: number, unit: string): string {
  const scales: readonly (readonly [number, string])[] = [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ];
  const [size, prefix] = unit.startsWith('/s')
    ? (scales.find(([least]) => Math.abs(value) >= least) ?? [1, ''])
    : [1, ''];
  const scaled = value / size;
  const digits = Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${prefix}${unit}`;
}

/** Writes the table into README.md between its marks, with what it was measured on. */
export function writeReadme(): void {
  const figures = readFigures();
  const head = `| ${HEAD.join(' | ')} |\n|${HEAD.map(() => ' --- ').join('|')}|`;
  const rows = figures.map((figure) => `| ${cells(figure).join(' | ')} |`);
  const machine = `Measured on ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, Linux ${kernel()}, Node ${process.versions.node}.`;
  const text = readFileSync(README, 'utf8');
  const [before = '', rest = ''] = text.split(MARK_BEGIN);
  const [, after = ''] = rest.split(MARK_END);
  writeFileSync(
    README,
    `${before}${MARK_BEGIN}\n\n${machine}\n\n${head}\n${rows.join('\n')}\n\n${MARK_END}${after}`,
  );
}

function kernel(): string {
  return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
}
