// SPDX-License-Identifier: Apache-2.0
// A table as its server publishes it. Per subscriber there is one update in flight: what it acknowledged last is the base of the next
// difference, so versions that come meanwhile are merged. A refused difference is sent once more as a full table; a refused full table
// waits for the next version. A subscriber that holds a later version than ours (it came from a replica that is ahead) is left alone
// until we have caught up.
import type { TableVersion, WatchRequest } from '@detour/contracts';
import type { Log } from '@detour/core';
import { type handleBidiStreamingCall, Metadata, type ServerDuplexStream } from '@grpc/grpc-js';
import { jitterLife, STREAM_LIFE_MS } from './stream-life.js';
import { sameVersion, type TableRow, type TableUpdate } from './table-update.js';

export interface TablePublisherSpec<Row> {
  readonly name: string;
  /** What turns one table into another (packages/tables). */
  readonly diff: (
    before: readonly Row[],
    after: readonly Row[],
  ) => { readonly upserts: readonly Row[]; readonly removes: readonly number[] };
  readonly digest: (rows: readonly Row[]) => Uint8Array;
  readonly log: Log;
  readonly onAck?: (gateway: string, version: TableVersion) => void;
  readonly onNack?: (gateway: string, version: TableVersion, row: string, why: string) => void;
  /** Milliseconds after which a stream is ended, ± 20 % (default 10 minutes). */
  readonly lifeMs?: number;
  /** Milliseconds within which a subscriber must answer an update (default 30 s). */
  readonly ackTimeoutMs?: number;
}

interface Table<Row> {
  readonly version: TableVersion;
  readonly rows: readonly Row[];
  readonly digest: Uint8Array;
}

interface Subscriber<Row> {
  readonly call: ServerDuplexStream<WatchRequest, TableUpdate<Row>>;
  readonly gateway: string;
  /** The version that it said it had when it came. */
  readonly have: TableVersion | undefined;
  acked: Table<Row> | null;
  inFlight: { readonly table: Table<Row>; readonly full: boolean; readonly timer: NodeJS.Timeout } | null;
  /** The last version that it refused, and whether it was a full table. */
  refused: {
    readonly version: TableVersion;
    readonly full: boolean;
    readonly row: string;
    readonly why: string;
  } | null;
}

export interface SubscriberState {
  readonly gateway: string;
  readonly acked: TableVersion | null;
  readonly refused: { readonly version: TableVersion; readonly row: string; readonly why: string } | null;
}

export class TablePublisher<Row extends TableRow> {
  #spec: TablePublisherSpec<Row>;
  #version: TableVersion | null = null;
  #rowsOf: (gateway: string) => readonly Row[] = () => [];
  #tables = new Map<string, Table<Row>>();
  #subscribers = new Set<Subscriber<Row>>();

  constructor(spec: TablePublisherSpec<Row>) {
    this.#spec = spec;
  }

  get version(): TableVersion | null {
    return this.#version;
  }

  /**
   * Publishes a version; `rowsOf` is asked once per gateway and version. False, and nothing happens, when the sequence is lower than
   * what is published of the same epoch, or the very same version.
   */
  publish(version: TableVersion, rowsOf: (gateway: string) => readonly Row[]): boolean {
    const before = this.#version;
    if (before !== null && before.epoch === version.epoch && version.sequence < before.sequence) return false;
    if (sameVersion(before, version)) return false;
    this.#version = version;
    this.#rowsOf = rowsOf;
    this.#tables.clear();
    for (const subscriber of this.#subscribers) this.#pump(subscriber);
    return true;
  }

  /** The current table as `gateway` gets it; null before the first version. */
  table(gateway: string): Table<Row> | null {
    if (this.#version === null) return null;
    const known = this.#tables.get(gateway);
    if (known !== undefined) return known;
    const rows = this.#rowsOf(gateway);
    const table = { version: this.#version, rows, digest: this.#spec.digest(rows) };
    this.#tables.set(gateway, table);
    return table;
  }

  subscribers(): SubscriberState[] {
    return [...this.#subscribers].map(({ gateway, acked, refused }) => ({
      gateway,
      acked: acked?.version ?? null,
      refused: refused === null ? null : { version: refused.version, row: refused.row, why: refused.why },
    }));
  }

  /** The method's handler. */
  readonly handler: handleBidiStreamingCall<WatchRequest, TableUpdate<Row>> = (call) => {
    let subscriber: Subscriber<Row> | null = null;
    const leave = () => {
      clearTimeout(life);
      if (subscriber === null) return;
      clearTimeout(subscriber.inFlight?.timer);
      this.#subscribers.delete(subscriber);
    };
    const end = () => {
      leave();
      call.end();
    };
    const life = setTimeout(end, jitterLife(this.#spec.lifeMs ?? STREAM_LIFE_MS));
    life.unref();
    call.sendMetadata(new Metadata());
    call.on('data', (request: WatchRequest) => {
      if (subscriber === null) {
        subscriber = {
          call,
          gateway: request.gateway,
          have: request.have,
          acked: null,
          inFlight: null,
          refused: null,
        };
        this.#subscribers.add(subscriber);
        this.#pump(subscriber);
      } else if (request.ack !== undefined) this.#acknowledge(subscriber, request.ack);
    });
    call.on('end', end);
    call.on('cancelled', leave);
    call.on('error', leave);
  };

  #acknowledge(subscriber: Subscriber<Row>, ack: NonNullable<WatchRequest['ack']>): void {
    const { inFlight, gateway } = subscriber;
    if (inFlight === null || !sameVersion(inFlight.table.version, ack.version)) return;
    clearTimeout(inFlight.timer);
    subscriber.inFlight = null;
    const { version } = inFlight.table;
    if (ack.error === '') {
      subscriber.acked = inFlight.table;
      subscriber.refused = null;
      this.#spec.onAck?.(gateway, version);
    } else {
      subscriber.refused = { version, full: inFlight.full, row: ack.row, why: ack.error };
      const { name, log } = this.#spec;
      log.warn({ table: name, gateway, row: ack.row }, `${name}: ${gateway} refuses the table: ${ack.error}`);
      this.#spec.onNack?.(gateway, version, ack.row, ack.error);
    }
    this.#pump(subscriber);
  }

  /** Sends what the subscriber lacks, if anything, and if nothing is in flight. */
  #pump(subscriber: Subscriber<Row>): void {
    if (subscriber.inFlight !== null) return;
    const table = this.table(subscriber.gateway);
    if (table === null) return;
    const { have, acked, refused, call } = subscriber;
    if (acked === null && refused === null && have !== undefined && have.epoch === table.version.epoch) {
      if (have.sequence > table.version.sequence) return;
      if (sameVersion(have, table.version)) {
        subscriber.acked = table;
        return;
      }
    }
    if (sameVersion(acked?.version, table.version)) return;
    const again = sameVersion(refused?.version, table.version);
    if (again && refused?.full === true) return;
    const base = again ? null : acked;
    const full = base === null || base.version.epoch !== table.version.epoch;
    const delta = full ? { upserts: table.rows, removes: [] } : this.#spec.diff(base.rows, table.rows);
    const timer = setTimeout(() => {
      this.#spec.log.warn(
        { gateway: subscriber.gateway },
        `${this.#spec.name}: no answer to an update: ending the stream`,
      );
      this.#subscribers.delete(subscriber);
      call.end();
    }, this.#spec.ackTimeoutMs ?? 30_000);
    timer.unref();
    subscriber.inFlight = { table, full, timer };
    const { version, digest } = table;
    call.write({ version, full, upserts: [...delta.upserts], removes: [...delta.removes], digest });
  }
}
