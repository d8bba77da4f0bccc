// SPDX-License-Identifier: Apache-2.0

/*
 * The health of all nodes as it is told to others: a snapshot to whoever begins to listen, then every change, within the same turn.
 *
 * After a start nothing is known until the handshakes had their time. Whoever listened to the process before still holds its last
 * word, and that must stay in force (a crash of bfd alone moves no flow). So until every session has settled once, only settled
 * ones are told, as changes; then one complete snapshot. From then on everything is told as it comes, new sessions included.
 */

import type { HealthRow } from './loop-messages.js';

/** A session with both ends here is as good as the worse of them; AdminDown of one is the operator's word for both. */
const WORST_FIRST: readonly HealthRow['state'][] = ['admin-down', 'down', 'unknown', 'up'];

/** What listeners get: `complete` says that nodes not named have no session. */
export interface HealthNews {
  readonly complete: boolean;
  readonly rows: readonly HealthRow[];
}

/** Latest health by session; that of a session with both ends here as one row, under node/vrf. */
export class HealthBoard {
  readonly #rows = new Map<string, HealthRow>();
  readonly #ends = new Map<string, HealthRow>();
  readonly #listeners = new Set<(news: HealthNews) => void>();
  #known = false;
  #settled = false;

  /** Takes news of the timing thread; `complete`: these are all sessions. */
  take(rows: readonly HealthRow[], complete: boolean): void {
    if (complete) this.#ends.clear();
    const merged = new Map<string, HealthRow>();
    for (const row of rows) {
      if (row.end === null) merged.set(row.id, row);
      else this.#ends.set(row.id, row);
    }
    for (const row of rows) if (row.end !== null) merged.set(`${row.node}/${row.vrf}`, this.#both(row));
    this.#takeMerged([...merged.values()], complete);
  }

  #both(row: HealthRow): HealthRow {
    const id = `${row.node}/${row.vrf}`;
    const ends = [`${id}/a`, `${id}/b`].map((end) => this.#ends.get(end) ?? row);
    for (const state of WORST_FIRST) {
      const worst = ends.find((end) => end.state === state);
      if (worst !== undefined) return { ...worst, id };
    }
    return { ...row, id };
  }

  #takeMerged(rows: readonly HealthRow[], complete: boolean): void {
    if (complete) this.#rows.clear();
    for (const row of rows) this.#rows.set(row.id, row);
    this.#known ||= complete;
    const settledBefore = this.#settled;
    const all = [...this.#rows.values()];
    this.#settled ||= this.#known && all.every((row) => row.state !== 'unknown');
    if (settledBefore) this.#tell({ complete, rows });
    else if (this.#settled) this.#tell({ complete: true, rows: all });
    else this.#tell({ complete: false, rows: rows.filter((row) => row.state !== 'unknown') });
  }

  /** True once every session had a state other than `unknown`. */
  get settled(): boolean {
    return this.#settled;
  }

  get(id: string): HealthRow | undefined {
    return this.#rows.get(id);
  }

  /** Calls the listener with what is known now and then with every change; the returned function ends that. */
  listen(listener: (news: HealthNews) => void): () => void {
    const rows = [...this.#rows.values()].filter((row) => this.#settled || row.state !== 'unknown');
    if (this.#settled || rows.length > 0) listener({ complete: this.#settled, rows });
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(news: HealthNews): void {
    if (!news.complete && news.rows.length === 0) return;
    for (const listener of this.#listeners) listener(news);
  }
}
