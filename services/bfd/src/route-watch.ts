// SPDX-License-Identifier: Apache-2.0
// The main thread's hold on the route thread: says which routes matter, hears which are missing, and notices if it dies.

import { Worker } from 'node:worker_threads';
import { Fault } from '@detour/core';
import { libc } from './libc.js';
import type { RouteState, SessionSpec } from './loop-messages.js';
import type { RouteOrder, RouteReport, RouteRow, RouteWatchSpec } from './route-messages.js';
import type { WorkerSetup } from './worker-setup.js';

/** What the watch tells, on the main thread. */
export interface RouteListener {
  readonly onState: (id: string, state: RouteState) => void;
  /** The route thread died: nothing is known of routes any more. */
  readonly onFailure: (error: unknown) => void;
}

const answerWithinMs = 10_000;

export class RouteWatch implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #listener: RouteListener;
  readonly #asked = new Map<number, () => void>();
  #specs = new Map<string, RouteWatchSpec>();
  #ask = 0;
  #ended = false;

  private constructor(worker: Worker, wakeFd: number, listener: RouteListener) {
    this.#worker = worker;
    this.#wakeFd = wakeFd;
    this.#listener = listener;
    worker.on('message', (report: RouteReport) => this.#take(report));
    worker.on('error', (error) => {
      this.#ended = true;
      listener.onFailure(error);
    });
    worker.on('exit', () => {
      if (!this.#ended) listener.onFailure(new Fault('internal', 'the route thread ended by itself'));
      this.#ended = true;
    });
  }

  /** Starts the route thread; `workerUrl` is the built route-worker.js. @throws Fault when its sockets cannot be opened */
  static async start(
    workerUrl: URL,
    listener: RouteListener,
    { netns = null }: Partial<WorkerSetup> = {},
  ): Promise<RouteWatch> {
    const workerData: WorkerSetup = { netns };
    const worker = new Worker(workerUrl, { workerData, execArgv: [] });
    const started = await new Promise<RouteReport>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    worker.removeAllListeners('error');
    if (started.kind !== 'started')
      throw new Fault('internal', `the route thread began with "${started.kind}"`);
    return new RouteWatch(worker, started.wakeFd, listener);
  }

  /**
   * Exactly these sessions' routes are followed from now on. Resolves when the state of each has been told: who waits for that before the
   * sessions begin never sees a node without its routes only because nobody had looked.
   * @throws Fault `timeout`, `unavailable`
   */
  async follow(sessions: readonly SessionSpec[]): Promise<void> {
    const specs = sessions.flatMap(({ id, device, route }) =>
      route === undefined ? [] : [{ id, device, ...route }],
    );
    this.#specs = new Map(specs.map((spec) => [spec.id, spec]));
    const ask = ++this.#ask;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(ask);
        reject(new Fault('timeout', `the route thread did not answer within ${answerWithinMs} ms`));
      }, answerWithinMs);
      this.#asked.set(ask, () => {
        clearTimeout(timer);
        resolve();
      });
      this.#order({ kind: 'watch', specs, ask });
    });
  }

  #order(order: RouteOrder): void {
    if (this.#ended) throw new Fault('unavailable', 'the route thread is not running; restart bfd');
    this.#worker.postMessage(order);
    libc().write(this.#wakeFd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), 8);
  }

  #take(report: RouteReport): void {
    if (report.kind === 'started') return;
    for (const row of report.rows) this.#tell(row);
    if (report.kind !== 'watching') return;
    this.#asked.get(report.ask)?.();
    this.#asked.delete(report.ask);
  }

  #tell({ id, missing }: RouteRow): void {
    const spec = this.#specs.get(id);
    if (spec === undefined) return; // no longer asked for
    this.#listener.onState(id, routeState(spec, missing));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#order({ kind: 'stop' });
    this.#ended = true;
    await exited;
  }
}

/** In the words of `detour get nodes`. */
export function routeState(
  { device, table }: Pick<RouteWatchSpec, 'device' | 'table'>,
  missing: readonly string[],
): RouteState {
  if (missing.length === 0) return { state: 'up', why: '' };
  return { state: 'down', why: `no route to ${missing.join(', ')} by ${device} in table ${table}` };
}
