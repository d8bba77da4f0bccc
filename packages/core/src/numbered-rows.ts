// SPDX-License-Identifier: Apache-2.0
// Tables of numbered rows: what differs between two, and one brought up to date, each in one walk over them.

export interface Numbered {
  readonly number: number;
}

/** Rows by their numbers, ascending; the list itself where it is so already. */
export function inOrder<Row extends Numbered>(rows: readonly Row[]): readonly Row[] {
  for (let i = 1; i < rows.length; i++)
    if ((rows[i]?.number ?? 0) <= (rows[i - 1]?.number ?? 0))
      return [...rows].sort((x, y) => x.number - y.number);
  return rows;
}

/** Rows of `after` that are new or not the same as before, and numbers that are gone. Both in order; `same` is asked about rows that are not one object. */
export function changedRows<Row extends Numbered>(
  before: readonly Row[],
  after: readonly Row[],
  same: (was: Row, is: Row) => boolean,
): { readonly upserts: Row[]; readonly removes: number[] } {
  const upserts: Row[] = [];
  const removes: number[] = [];
  let at = 0;
  for (const row of after) {
    let was = before[at];
    for (; was !== undefined && was.number < row.number; was = before[++at]) removes.push(was.number);
    if (was !== undefined && was.number === row.number) {
      at++;
      if (was === row || same(was, row)) continue;
    }
    upserts.push(row);
  }
  for (; at < before.length; at++) removes.push(before[at]?.number ?? 0);
  return { upserts, removes };
}

/** The row of a number in a list in order. */
export function rowOf<Row extends Numbered>(rows: readonly Row[], number: number): Row | undefined {
  let low = 0;
  for (let high = rows.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if ((rows[middle]?.number ?? 0) < number) low = middle + 1;
    else high = middle;
  }
  const row = rows[low];
  return row?.number === number ? row : undefined;
}

/** The table after some rows changed or came and others went; in order. */
export function mergeRows<Row extends Numbered>(
  before: readonly Row[],
  upserts: readonly Row[],
  removes: readonly number[],
): Row[] {
  if (before.length === 0 && inOrder(upserts) === upserts) return [...upserts];
  const changed = new Map(upserts.map((row) => [row.number, row]));
  const gone = new Set([...removes].filter((number) => !changed.has(number)));
  const added = [...changed.values()].sort((x, y) => x.number - y.number);
  const out: Row[] = [];
  let at = 0;
  for (const row of inOrder(before)) {
    for (let next = added[at]; next !== undefined && next.number < row.number; next = added[++at])
      out.push(next);
    if (!gone.has(row.number) && !changed.has(row.number)) out.push(row);
  }
  return out.concat(added.slice(at));
}
