// SPDX-License-Identifier: Apache-2.0
// What a simulated day writes down. Parts are of 1: 0.01 is 1 %.
import type { PinMoves } from './accounting.js';
import type { TableChange, TableSpread } from './measures.js';

/** At the end of a step. `moved` and `least` are what following the scores changed. */
export interface Sample extends TableSpread, TableChange {
  readonly atMs: number;
  /** Since the step before: scores published, tables built, and CPU time of building them. */
  readonly published: number;
  readonly built: number;
  readonly buildMs: number;
  /** Slots of all tables. */
  readonly bytes: number;
  /** Flows that have begun since the step before; the most loaded node of theirs over its share; the same by lot. */
  readonly begun: number;
  readonly begunOverNode: number;
  readonly lotOverNode: number;
  readonly pins: PinMoves;
}

/** Nodes went down: what the gateway did by itself. */
export interface Failure extends TableChange {
  readonly atMs: number;
  readonly name: string;
  readonly nodes: number;
  readonly buildMs: number;
  readonly maglev: TableChange;
  /** Flows that were on the nodes. */
  readonly flows: number;
  readonly pins: PinMoves;
}
