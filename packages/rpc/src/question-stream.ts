// SPDX-License-Identifier: Apache-2.0
// Per-flow questions on one long stream, with correlation ids. Questions of one turn of the event loop go out as one batch; those that
// are open when the stream ends are asked again of the next instance, within their own deadline; an answer to a question that nobody
// waits for any more is dropped and counted.
import { Fault } from '@detour/core';
import { LongStream, type LongStreamSpec } from './long-stream.js';

export interface QuestionStreamSpec<Q, A, QB, AB> extends LongStreamSpec<QB, AB> {
  readonly pack: (questions: Q[]) => QB;
  readonly unpack: (batch: AB) => readonly A[];
  /** Milliseconds for an answer (default 20). */
  readonly timeoutMs?: number;
  /** Open questions at most (default 4096). */
  readonly maxInFlight?: number;
}

interface Open<Q, A> {
  readonly question: Q;
  readonly deadlineMs: number;
  readonly resolve: (answer: A) => void;
  readonly reject: (fault: Fault) => void;
}

export interface QuestionCounters {
  asked: number;
  answered: number;
  timeouts: number;
  reasked: number;
  late: number;
  unavailable: number;
  exhausted: number;
}

const MAX_BATCH = 512;

export class QuestionStream<Q extends { id: bigint }, A extends { id: bigint }, QB, AB>
  implements Disposable
{
  readonly counters: QuestionCounters = {
    ...{ asked: 0, answered: 0, timeouts: 0, reasked: 0, late: 0, unavailable: 0, exhausted: 0 },
  };
  #spec: QuestionStreamSpec<Q, A, QB, AB>;
  #stream: LongStream<QB, AB>;
  #open = new Map<bigint, Open<Q, A>>();
  #unsent: Q[] = [];
  #scheduled = false;
  #lastId = 0n;
  #sweep: { timer: NodeJS.Timeout; atMs: number } | null = null;

  constructor(spec: QuestionStreamSpec<Q, A, QB, AB>) {
    this.#spec = spec;
    this.#stream = new LongStream<QB, AB>(spec, {
      opened: () => {
        this.#unsent = [...this.#open.values()].map((one) => one.question);
        this.#schedule();
      },
      message: (batch) => this.#take(batch),
      lost: (next) => {
        if (next) this.counters.reasked += this.#open.size;
        else this.#rejectAll(`${spec.name}: no instance can be asked`);
      },
    });
  }

  get connected(): boolean {
    return this.#stream.connected;
  }
  get address(): string | null {
    return this.#stream.address;
  }
  get inFlight(): number {
    return this.#open.size;
  }

  /** @throws Fault `timeout` | `unavailable` (at once when nobody can be asked) | `exhausted` */
  ask(question: Omit<Q, 'id'>, options: { readonly timeoutMs?: number } = {}): Promise<A> {
    const { name, maxInFlight = 4_096 } = this.#spec;
    const timeoutMs = options.timeoutMs ?? this.#spec.timeoutMs ?? 20;
    if (this.#open.size >= maxInFlight) {
      this.counters.exhausted += 1;
      return Promise.reject(new Fault('exhausted', `${name}: ${maxInFlight} questions are open already`));
    }
    if (!this.#stream.start()) {
      this.counters.unavailable += 1;
      return Promise.reject(new Fault('unavailable', `${name}: no instance can be asked`));
    }
    this.counters.asked += 1;
    this.#lastId += 1n;
    const whole = { ...question, id: this.#lastId } as unknown as Q;
    const deadlineMs = performance.now() + timeoutMs;
    return new Promise((resolve, reject) => {
      this.#open.set(whole.id, { question: whole, deadlineMs, resolve, reject });
      this.#unsent.push(whole);
      this.#schedule();
      this.#armSweep(deadlineMs);
    });
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
    if (this.#sweep !== null) clearTimeout(this.#sweep.timer);
    this.#rejectAll(`${this.#spec.name}: the stream is closed`);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const unsent = this.#unsent.filter((question) => this.#open.has(question.id));
      this.#unsent = [];
      for (let i = 0; i < unsent.length; i += MAX_BATCH) {
        this.#stream.send(this.#spec.pack(unsent.slice(i, i + MAX_BATCH)));
      }
    });
  }

  #take(batch: AB): void {
    for (const answer of this.#spec.unpack(batch)) {
      const open = this.#open.get(answer.id);
      if (open === undefined) {
        this.counters.late += 1;
        continue;
      }
      this.#open.delete(answer.id);
      this.counters.answered += 1;
      open.resolve(answer);
    }
  }

  #armSweep(atMs: number): void {
    if (this.#sweep !== null) {
      if (this.#sweep.atMs <= atMs) return;
      clearTimeout(this.#sweep.timer);
    }
    // After a busy turn of the event loop answers may be here already, unread: they are read before a timeout counts.
    const expire = () => setImmediate(() => this.#expire());
    this.#sweep = { timer: setTimeout(expire, Math.max(1, atMs - performance.now())), atMs };
  }

  #expire(): void {
    if (this.#sweep !== null) clearTimeout(this.#sweep.timer);
    this.#sweep = null;
    const now = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [id, open] of this.#open) {
      if (open.deadlineMs > now) {
        nextMs = Math.min(nextMs, open.deadlineMs);
        continue;
      }
      this.#open.delete(id);
      this.counters.timeouts += 1;
      open.reject(new Fault('timeout', `${this.#spec.name}: no answer in time from ${this.#stream.address}`));
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#armSweep(nextMs);
  }

  #rejectAll(why: string): void {
    const open = [...this.#open.values()];
    this.#open.clear();
    this.#unsent = [];
    this.counters.unavailable += open.length;
    for (const { reject } of open) reject(new Fault('unavailable', why));
  }
}
