// SPDX-License-Identifier: Apache-2.0
// The main thread's hold on the timing thread: gives it orders, hands on its health reports, and notices if it dies.

import { Worker } from 'node:worker_threads';
import { Fault } from '@detour/core';
import { libc } from './libc.js';
import type {
  Findings,
  HealthRow,
  LoopOrder,
  LoopReport,
  MeasuredRow,
  SessionRow,
  SessionSpec,
} from './loop-messages.js';
import type { WorkerSetup } from './worker-setup.js';

/** A change of state of one of a session's probes, for logs and counters. */
export type SessionEvent = Extract<LoopReport, { kind: 'event' }>;

/** What the engine tells, at once and on the main thread. */
export interface EngineListener {
  /** `complete`: these are all sessions. */
  readonly onHealth: (rows: readonly HealthRow[], complete: boolean) => void;
  readonly onEvent: (event: SessionEvent) => void;
  /** The timing thread died: no session runs any more. */
  readonly onFailure: (error: unknown) => void;
}

/** All sessions, and what was refused, by reason. */
export interface SessionList {
  readonly rows: readonly SessionRow[];
  readonly refused: Readonly<Record<string, number>>;
}

const answerWithinMs = 2_000;

/** Runs BFD sessions on a thread of their own. */
export class BfdEngine {
  /** Whether the timing thread has real-time priority. */
  readonly realtime: boolean;
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #asked = new Map<number, (report: LoopReport) => void>();
  #nextAsk = 1;
  #ended = false;

  private constructor(
    worker: Worker,
    started: Extract<LoopReport, { kind: 'started' }>,
    listener: EngineListener,
  ) {
    this.#worker = worker;
    this.#wakeFd = started.wakeFd;
    this.realtime = started.realtime;
    worker.on('message', (report: LoopReport) => this.#take(report, listener));
    worker.on('error', (error) => {
      this.#ended = true;
      listener.onFailure(error);
    });
    worker.on('exit', () => {
      if (!this.#ended) listener.onFailure(new Fault('internal', 'the BFD timing thread ended by itself'));
      this.#ended = true;
    });
  }

  /**
   * Starts the timing thread; `workerUrl` is the built worker.js.
   * @throws Fault when its sockets cannot be opened: port 3784 taken, rights missing
   */
  static async start(
    workerUrl: URL,
    listener: EngineListener,
    netns: string | null = null,
  ): Promise<BfdEngine> {
    const workerData: WorkerSetup = { netns };
    // No flags of the parent: a module condition given there would change which files the thread loads.
    const worker = new Worker(workerUrl, { workerData, execArgv: [] });
    const started = await new Promise<LoopReport>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    worker.removeAllListeners('error');
    if (started.kind !== 'started')
      throw new Fault('internal', `the timing thread began with "${started.kind}"`);
    return new BfdEngine(worker, started, listener);
  }

  #order(order: LoopOrder): void {
    if (this.#ended) throw new Fault('unavailable', 'the BFD timing thread is not running; restart bfd');
    this.#worker.postMessage(order);
    libc().write(this.#wakeFd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), 8);
  }

  #take(report: LoopReport, listener: EngineListener): void {
    switch (report.kind) {
      case 'health':
        listener.onHealth(report.rows, false);
        break;
      case 'snapshot':
        listener.onHealth(report.rows, true);
        break;
      case 'event':
        listener.onEvent(report);
        break;
      case 'listed':
      case 'measured':
      case 'admin-done':
        this.#asked.get(report.ask)?.(report);
        this.#asked.delete(report.ask);
        break;
      case 'started':
        break;
    }
  }

  #ask<K extends LoopReport['kind']>(
    kind: K,
    order: (ask: number) => LoopOrder,
  ): Promise<Extract<LoopReport, { kind: K }>> {
    const ask = this.#nextAsk++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(ask);
        reject(new Fault('timeout', `the BFD timing thread did not answer within ${answerWithinMs} ms`));
      }, answerWithinMs);
      this.#asked.set(ask, (report) => {
        clearTimeout(timer);
        if (report.kind === kind) resolve(report as Extract<LoopReport, { kind: K }>);
      });
      try {
        this.#order(order(ask));
      } catch (error) {
        clearTimeout(timer);
        this.#asked.delete(ask);
        reject(error);
      }
    });
  }

  /** Makes exactly these sessions run; one whose device and addresses are unchanged keeps its state. `partial`: there will be more. */
  setSessions(specs: readonly SessionSpec[], { partial = false } = {}): void {
    this.#order({ kind: 'sessions', specs, ...(partial && { partial }) });
  }

  /** What was found out about a session's node; of no interest when the session has gone meanwhile. */
  tell(id: string, findings: Findings): void {
    if (!this.#ended) this.#order({ kind: 'found', id, findings });
  }

  /** @throws Fault `not_found` when there is no such session */
  async setAdminDown(id: string, down: boolean): Promise<void> {
    const { found } = await this.#ask('admin-done', (ask) => ({ kind: 'admin', id, down, ask }));
    if (!found)
      throw new Fault('not_found', `there is no BFD session "${id}"; \`detour get sessions\` lists them`);
  }

  async list(): Promise<SessionList> {
    return this.#ask('listed', (ask) => ({ kind: 'list', ask }));
  }

  /** What was measured through nodes that are up since the last time that this was asked. */
  async measure(): Promise<readonly MeasuredRow[]> {
    return (await this.#ask('measured', (ask) => ({ kind: 'measure', ask }))).rows;
  }

  /** Says AdminDown to all peers and ends the thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#order({ kind: 'stop' });
    this.#ended = true;
    await exited;
  }
}
