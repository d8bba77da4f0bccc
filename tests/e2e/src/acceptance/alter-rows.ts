// SPDX-License-Identifier: Apache-2.0
/** Ways to spoil a path table, one row at a time (PSEL-4). */
import type { ChainRow, PathRow } from '@detour/contracts';

export const ALTERATIONS = ['unknown-path', 'duplicate-path', 'total-weight-zero'] as const;
export type Alteration = (typeof ALTERATIONS)[number];

/** A path number that no revision of these tests has. */
export const UNKNOWN_PATH = 99;

/** The rows with the first chain's paths spoiled. */
export function alterRows(rows: readonly ChainRow[], how: Alteration): readonly ChainRow[] {
  return rows.map((row, i) => (i === 0 ? { ...row, paths: alterPaths(row.paths, how) } : row));
}

function alterPaths(paths: readonly PathRow[], how: Alteration): PathRow[] {
  switch (how) {
    case 'unknown-path':
      return paths.map((path, i) => (i === 1 ? { ...path, number: UNKNOWN_PATH } : path));
    case 'duplicate-path':
      return paths.map((path, i) => (i === 1 ? { ...path, number: paths[0]?.number ?? 0 } : path));
    case 'total-weight-zero':
      return paths.map((path) => ({ ...path, weight: 0, fallbackWeight: 0 }));
  }
}
