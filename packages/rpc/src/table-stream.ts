// SPDX-License-Identifier: Apache-2.0
// A table as its receiver keeps it: updates are folded in, validated, checked against the digest and applied one after the other, each
// answered by an ACK, or by a NACK that names the row. A refused update changes nothing. The table outlives the stream: a new one
// begins by saying which version is held.
import type { TableVersion, WatchRequest } from '@detour/contracts';
import { describeError, type Log } from '@detour/core';
import { LongStream, type LongStreamSpec } from './long-stream.js';
import { foldRows, mayFollow, type TableRow, type TableUpdate, type TableVerdict } from './table-update.js';

export interface AppliedTable<Row> {
  readonly rows: readonly Row[];
  readonly version: TableVersion;
  readonly full: boolean;
  readonly upserts: readonly Row[];
  readonly removes: readonly number[];
}

export interface TableStreamSpec<Row> extends LongStreamSpec<WatchRequest, TableUpdate<Row>> {
  readonly gateway: string;
  /** SHA-256 over the canonical rows (packages/tables). */
  readonly digest: (rows: readonly Row[]) => Uint8Array;
  /** Looks for a wrong row before the digest is compared, so that a refusal names it. */
  readonly validate?: (rows: readonly Row[]) => TableVerdict;
  /** Puts the table into force, or refuses it. What it throws is a refusal too. */
  readonly apply: (table: AppliedTable<Row>) => Promise<TableVerdict> | TableVerdict;
}

export interface TableRefusal {
  readonly version: TableVersion | undefined;
  readonly row: string;
  readonly why: string;
}

const MAX_ERROR = 1_000;

export class TableStream<Row extends TableRow> implements AsyncDisposable {
  #spec: TableStreamSpec<Row>;
  #log: Log;
  #stream: LongStream<WatchRequest, TableUpdate<Row>>;
  #rows: readonly Row[] = [];
  #version: TableVersion | null = null;
  #refusal: TableRefusal | null = null;
  #generation = 0;
  #work: Promise<void> = Promise.resolve();

  constructor(spec: TableStreamSpec<Row>) {
    this.#spec = spec;
    this.#log = spec.log;
    this.#stream = new LongStream(spec, {
      opened: () => {
        this.#generation += 1;
        this.#stream.send({ gateway: spec.gateway, have: this.#version ?? undefined, ack: undefined });
      },
      message: (update) => {
        const generation = this.#generation;
        this.#stream.pause();
        this.#work = this.#work.then(() => this.#take(update, generation));
      },
      lost: () => {},
    });
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }
  /** null before the first table. */
  get version(): TableVersion | null {
    return this.#version;
  }
  get connected(): boolean {
    return this.#stream.connected;
  }
  get address(): string | null {
    return this.#stream.address;
  }
  /** The last update that was refused; null once a later one was applied. */
  get refusal(): TableRefusal | null {
    return this.#refusal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stream[Symbol.dispose]();
    await this.#work;
  }

  async #take(update: TableUpdate<Row>, generation: number): Promise<void> {
    const { name } = this.#spec;
    const verdict = await this.#judge(update);
    const { version } = update;
    if (verdict.ok) {
      this.#refusal = null;
    } else {
      this.#refusal = { version, row: verdict.row, why: verdict.why };
      this.#log.warn(
        { table: name, row: verdict.row, sequence: String(version?.sequence ?? '') },
        `${name}: update refused, the old table stays: ${verdict.row === '' ? '' : `${verdict.row}: `}${verdict.why}`,
      );
    }
    if (generation !== this.#generation) return; // its stream is gone; the next one has said what is held
    const ack = verdict.ok
      ? { version, error: '', row: '' }
      : {
          version,
          error: verdict.why.slice(0, MAX_ERROR) || 'refused',
          row: verdict.row.slice(0, MAX_ERROR),
        };
    this.#stream.send({ gateway: this.#spec.gateway, have: this.#version ?? undefined, ack });
    this.#stream.resume();
  }

  async #judge(update: TableUpdate<Row>): Promise<TableVerdict> {
    const follows = mayFollow(this.#version, update);
    const { version } = update;
    if (!follows.ok || version === undefined) return follows;
    try {
      const rows = foldRows(this.#rows, update);
      const valid = this.#spec.validate?.(rows) ?? { ok: true };
      if (!valid.ok) return valid;
      if (Buffer.compare(this.#spec.digest(rows), update.digest) !== 0) {
        return { ok: false, row: '', why: 'the digest of the table does not match its rows' };
      }
      const { full, upserts, removes } = update;
      const applied = await this.#spec.apply({ rows, version, full, upserts, removes });
      if (!applied.ok) return applied;
      this.#rows = rows;
      this.#version = version;
      return applied;
    } catch (error) {
      return { ok: false, row: '', why: describeError(error) };
    }
  }
}
