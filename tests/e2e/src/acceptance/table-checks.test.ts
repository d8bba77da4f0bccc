// SPDX-License-Identifier: Apache-2.0
import { AffinityKind, ChainRow, OnFailure, SelectPolicy } from '@detour/contracts';
import { buildSelection, validateChains, validateSelection } from '@detour/tables';
import { describe, expect, it } from 'vitest';
import { ALTERATIONS, alterRows } from './alter-rows.js';

const members = [
  { path: 101, weight: 50 },
  { path: 102, weight: 30 },
  { path: 103, weight: 20 },
];
const rows = [
  ChainRow.fromPartial({
    number: 1,
    name: 'inspect',
    onFailure: OnFailure.DROP,
    affinity: AffinityKind.FIVE_TUPLE,
    select: SelectPolicy.WEIGHTED,
    paths: members.map(({ path, weight }) => ({ number: path, nodes: [path - 100], weight })),
  }),
];
const known = (path: number) => (path > 100 && path <= 103 ? [path - 100] : undefined);

describe('checks of tables before they are published', () => {
  it('PSEL-4 packages/tables refuses unknown and duplicate paths and a total weight of zero, with row and reason', () => {
    expect(validateChains(rows, known)).toEqual({ ok: true });
    expect(ALTERATIONS.map((how) => validateChains(alterRows(rows, how), known))).toEqual([
      { ok: false, row: 'chain inspect', why: 'path 99 is unknown' },
      { ok: false, row: 'chain inspect', why: 'path 101 occurs twice' },
      { ok: false, row: 'chain inspect', why: expect.stringContaining('the total weight is 0') },
    ]);
  });

  it('PSEL-4 packages/tables refuses ranges with a hole or an overlap, with the reason', () => {
    const slots = buildSelection(members, 1);
    expect(validateSelection(slots, members)).toEqual({ ok: true });
    const hole = slots.slice().fill(0, 7, 8);
    expect(validateSelection(hole, members)).toMatchObject({ ok: false, why: 'slot 7 is a hole' });
    const taken = slots.indexOf(102);
    const overlap = slots.slice().fill(101, taken, taken + 1);
    expect(validateSelection(overlap, members)).toMatchObject({
      ok: false,
      why: expect.stringMatching(/^path 10[12] has \d+ slots instead of \d+$/),
    });
  });
});
