// SPDX-License-Identifier: Apache-2.0
// Publishing in two banks: a whole version is staged in the idle bank, only what differs from what that bank holds, then one word is
// flipped. If any row is refused, nothing is flipped and the live bank stays as it is.
import { Fault } from '@detour/core';

/** A row of a banked table. `id` is unique within its table and the same in both banks. */
export interface Row {
  readonly table: string;
  readonly id: string | number;
  readonly key: (bank: number) => Uint8Array;
  readonly value: Uint8Array;
}

/** The maps as bank.ts sees them. `remove` deletes a hash row, or zeroes an array row. */
export interface BankStore {
  write(table: string, key: Uint8Array, value: Uint8Array): void;
  remove(table: string, key: Uint8Array): void;
  /** Makes a bank of unknown content empty. */
  wipe(bank: number): void;
  readBank(): number;
  flip(bank: number): void;
}

/** How long after a flip a packet may still be reading the bank that has become idle; programs run for microseconds. */
const READERS_GRACE_MS = 1;

export class Banks {
  private readonly shadows: (Map<string, Row> | null)[] = [null, null];
  private flippedAtMs = 0;

  constructor(
    private readonly store: BankStore,
    private readonly monoMs: () => number,
  ) {}

  /** Stages `rows` and flips. @throws Fault naming the row that was refused; then the live tables are unchanged. */
  publish(rows: Iterable<Row>): { written: number; removed: number } {
    while (this.monoMs() - this.flippedAtMs < READERS_GRACE_MS) {
      // at most a millisecond, and only when two versions follow each other at once
    }
    const idle = this.store.readBank() === 0 ? 1 : 0;
    const counts = this.stage(idle, rows);
    this.store.flip(idle);
    this.flippedAtMs = this.monoMs();
    return counts;
  }

  private stage(bank: number, rows: Iterable<Row>): { written: number; removed: number } {
    let shadow = this.shadows[bank] ?? null;
    if (shadow === null) {
      this.store.wipe(bank);
      shadow = new Map();
      this.shadows[bank] = shadow;
    }
    const wanted = new Set<string>();
    let written = 0;
    let removed = 0;
    for (const row of rows) {
      const id = `${row.table}/${row.id}`;
      wanted.add(id);
      const held = shadow.get(id);
      if (held !== undefined && (held.value === row.value || Buffer.compare(held.value, row.value) === 0))
        continue;
      try {
        this.store.write(row.table, row.key(bank), row.value);
      } catch (error) {
        throw new Fault(
          'refused',
          `row ${row.id} of table ${row.table} could not be written: the tables in force stay`,
          error,
        );
      }
      shadow.set(id, row);
      written++;
    }
    for (const [id, row] of shadow) {
      if (wanted.has(id)) continue;
      this.store.remove(row.table, row.key(bank));
      shadow.delete(id);
      removed++;
    }
    return { written, removed };
  }
}
