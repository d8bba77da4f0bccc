// SPDX-License-Identifier: Apache-2.0
// The shape that RuleUpdate and PathUpdate share, and when an update may follow a version. Logic only, no streams.
import type { TableVersion } from '@detour/contracts';
import { mergeRows } from '@detour/core';

export interface TableRow {
  readonly number: number;
}

export interface TableUpdate<Row> {
  version: TableVersion | undefined;
  /** upserts are the whole table */
  full: boolean;
  upserts: Row[];
  removes: number[];
  digest: Uint8Array;
}

export type TableVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly row: string; readonly why: string };

/** ARCHITECTURE.md section 2: a lower sequence of the same epoch is refused, a new epoch comes only with a full snapshot. */
export function mayFollow(have: TableVersion | null, update: TableUpdate<unknown>): TableVerdict {
  const refuse = (why: string): TableVerdict => ({ ok: false, row: '', why });
  const { version, full } = update;
  if (version === undefined) return refuse('the update has no version');
  if (have === null) return full ? { ok: true } : refuse('a difference without a table to apply it to');
  if (version.epoch !== have.epoch) {
    return full
      ? { ok: true }
      : refuse(`epoch ${version.epoch} begins with a difference instead of a full table`);
  }
  return version.sequence >= have.sequence
    ? { ok: true }
    : refuse(`sequence ${version.sequence} is older than ${have.sequence}, which is held`);
}

/** Rows after an update, by number. */
export function foldRows<Row extends TableRow>(held: readonly Row[], update: TableUpdate<Row>): Row[] {
  return mergeRows(update.full ? [] : held, update.upserts, update.removes);
}

export function sameVersion(x: TableVersion | null | undefined, y: TableVersion | null | undefined): boolean {
  if (!x || !y) return false;
  return x.epoch === y.epoch && x.sequence === y.sequence && x.revision === y.revision;
}
