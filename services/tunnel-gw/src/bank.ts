// SPDX-License-Identifier: Apache-2.0
// Publishing in two banks: a whole version is staged in the idle bank, only what differs from what that bank holds, then one word is
// flipped. If any row is refused, nothing is flipped and the live bank stays as it is.
import { Fault } from '@detour/core';

/** A row of a banked table. `id` stands for its key: equal ids, equal keys; the same in both banks. */
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
  /** Which half of the rule table a bank goes by. */
  pointRules(bank: number, half: number): void;
  flip(bank: number): void;
}

export interface BanksOptions {
  readonly store: BankStore;
  readonly monoMs: () => number;
  /** True when a predecessor may have left rows: each bank is wiped before its first use. */
  readonly wipe: boolean;
}

/** How long after a flip a packet may still be reading the bank that has become idle; programs run for microseconds. */
const READERS_GRACE_MS = 1;

interface Held {
  row: Row;
  staging: number;
}
/** What a bank holds, by table and id. */
type Shadow = Map<string, Map<string | number, Held>>;

export class Banks {
  private readonly shadows: (Shadow | null)[];
  private latest: { readonly rows: readonly Row[]; readonly rulesHalf: number } | null = null;
  private staging = 0;
  private flippedAtMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: BanksOptions) {
    this.shadows = options.wipe ? [null, null] : [new Map(), new Map()];
  }

  /** Stages `rows` and flips; `rulesHalf` is where the rule table of this version has been staged. @throws Fault naming the row that was refused; then the live tables are unchanged. */
  publish(rows: readonly Row[], rulesHalf: number): { written: number; removed: number } {
    const { store, monoMs } = this.options;
    this.settle();
    const idle = store.readBank() === 0 ? 1 : 0;
    const counts = this.stage(idle, rows);
    store.pointRules(idle, rulesHalf);
    store.flip(idle);
    this.flippedAtMs = monoMs();
    this.latest = { rows, rulesHalf };
    return counts;
  }

  /** Returns when no packet reads what was live before the last flip. */
  settle(): void {
    while (this.options.monoMs() - this.flippedAtMs < READERS_GRACE_MS) {
      // at most a millisecond, and only when two versions follow each other at once
    }
  }

  /**
   * Brings the idle bank up to what is live, so that the next version has only its own difference to write. Not for a moment in which
   * something waits; false when it is too early for that after a flip.
   */
  mirror(): boolean {
    const { store, monoMs } = this.options;
    if (this.latest === null) return true;
    if (monoMs() - this.flippedAtMs < READERS_GRACE_MS) return false;
    const bank = 1 - store.readBank();
    this.stage(bank, this.latest.rows);
    store.pointRules(bank, this.latest.rulesHalf);
    return true;
  }

  private stage(bank: number, rows: readonly Row[]): { written: number; removed: number } {
    const shadow = this.shadowOf(bank);
    const staging = ++this.staging;
    let written = 0;
    for (const row of rows) {
      let table = shadow.get(row.table);
      if (table === undefined) {
        table = new Map();
        shadow.set(row.table, table);
      }
      const held = table.get(row.id);
      if (held !== undefined && sameValue(held.row, row)) {
        held.row = row;
        held.staging = staging;
        continue;
      }
      this.write(bank, row);
      table.set(row.id, { row, staging });
      written++;
    }
    return { written, removed: this.removeStale(bank, shadow, staging) };
  }

  private write(bank: number, row: Row): void {
    try {
      this.options.store.write(row.table, row.key(bank), row.value);
    } catch (error) {
      throw new Fault(
        'refused',
        `row ${row.id} of table ${row.table} could not be written: the tables in force stay`,
        error,
      );
    }
  }

  private removeStale(bank: number, shadow: Shadow, staging: number): number {
    let removed = 0;
    for (const [name, table] of shadow) {
      for (const [id, held] of table) {
        if (held.staging === staging) continue;
        this.options.store.remove(name, held.row.key(bank));
        table.delete(id);
        removed++;
      }
    }
    return removed;
  }

  private shadowOf(bank: number): Shadow {
    const known = this.shadows[bank];
    if (known !== null && known !== undefined) return known;
    this.options.store.wipe(bank);
    const shadow: Shadow = new Map();
    this.shadows[bank] = shadow;
    return shadow;
  }
}

function sameValue(held: Row, row: Row): boolean {
  return held === row || held.value === row.value || Buffer.compare(held.value, row.value) === 0;
}
