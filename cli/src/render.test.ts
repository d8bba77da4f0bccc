// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { formatAge, render, renderTable, viewRows } from './render.js';

interface Row {
  readonly name: string;
  readonly count: number | null;
  readonly up: boolean;
  readonly tags: readonly string[];
}
const COLUMNS = [
  ['NAME', (row: Row) => row.name],
  ['COUNT', (row: Row) => row.count],
  ['UP', (row: Row) => row.up],
  ['TAGS', (row: Row) => row.tags],
] as const;

describe('tables', () => {
  it('align columns, numbers to the right, nothing as a dash', () => {
    const rows = [
      { name: 'fw1', count: 12345, up: true, tags: ['a', 'b'] },
      { name: 'firewall-2', count: null, up: false, tags: [] },
    ];
    expect(renderTable(COLUMNS, rows)).toBe(
      ['NAME        COUNT  UP   TAGS', 'fw1         12345  yes  a, b', 'firewall-2      -  no   -', ''].join(
        '\n',
      ),
    );
  });

  it('say so when there is nothing', () => {
    expect(renderTable(COLUMNS, [], 'no alarm is raised')).toBe('no alarm is raised\n');
  });

  it('let no control character through to the terminal', () => {
    expect(renderTable([['WHY', (row: { why: string }) => row.why]], [{ why: 'a\u001b[31mb\nc' }])).toBe(
      'WHY\na [31mb c\n',
    );
  });
});

describe('formats for programs', () => {
  it('give counters as numbers, too large ones as text, bytes as hex', () => {
    const view = viewRows([{ packets: 5n, bytes: 2n ** 63n, key: Uint8Array.of(1, 255) }], []);
    expect(JSON.parse(render(view, 'json'))).toEqual([
      { packets: 5, bytes: '9223372036854775808', key: '01ff' },
    ]);
    expect(render(view, 'yaml')).toBe('- packets: 5\n  bytes: "9223372036854775808"\n  key: 01ff\n');
  });
});

it.each([
  [0, '0ms'],
  [999, '999ms'],
  [1000, '1s'],
  [61_000, '1m 1s'],
  [3_600_000, '1h'],
  [90_061_000, '1d 1h'],
])('%d ms is %s', (ms, text) => {
  expect(formatAge(ms)).toBe(text);
});
