// SPDX-License-Identifier: Apache-2.0
// One bidirectional stream that is wanted for as long as its owner lives: to the preferred instance, or else the next one.
import { describeError, type Log } from '@detour/core';
import type { OpenStream } from './client.js';
import { InstanceChoice } from './rendezvous.js';

export interface LongStreamSpec<Out, In> {
  readonly name: string;
  /** What the rendezvous hash is over, besides the address: the gateway's name. */
  readonly key: string;
  readonly instances: () => readonly string[];
  readonly open: (address: string) => OpenStream<Out, In>;
  readonly log: Log;
}

export interface LongStreamEvents<In> {
  /** A stream has been started: say what must be said first. */
  opened(): void;
  message(message: In): void;
  /** The stream is gone; `next` says whether another one was started at once. */
  lost(next: boolean): void;
}

const TICK_MS = 50;
/** A stream whose server has not answered its opening by then is given up. */
const OPEN_TIMEOUT_MS = 2_000;

interface Current<Out, In> {
  readonly address: string;
  readonly stream: OpenStream<Out, In>;
  readonly sinceMs: number;
  connected: boolean;
}

export class LongStream<Out, In> implements Disposable {
  #spec: LongStreamSpec<Out, In>;
  #events: LongStreamEvents<In>;
  #choice = new InstanceChoice();
  #current: Current<Out, In> | null = null;
  #told: 'connected' | 'away' | null = null;
  #ended = false;
  #timer: NodeJS.Timeout;

  constructor(spec: LongStreamSpec<Out, In>, events: LongStreamEvents<In>) {
    this.#spec = spec;
    this.#events = events;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
    setImmediate(() => this.#tick());
  }

  /** Whether the server has answered the opening of the stream. */
  get connected(): boolean {
    return this.#current?.connected ?? false;
  }
  get address(): string | null {
    return this.#current?.address ?? null;
  }
  /** Whether a stream is open or opening; if not, try `start`. */
  get open(): boolean {
    return this.#current !== null;
  }

  /** Starts a stream now if somebody can be asked; whether one is open or opening. */
  start(): boolean {
    if (this.#current === null && !this.#ended) this.#begin();
    return this.#current !== null;
  }

  /** Sends on the open stream; false when there is none. */
  send(message: Out): boolean {
    if (this.#current === null) return false;
    this.#current.stream.call.write(message);
    return true;
  }

  /** Stops reading until `resume`. */
  pause(): void {
    this.#current?.stream.call.pause();
  }
  resume(): void {
    this.#current?.stream.call.resume();
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    clearInterval(this.#timer);
    const current = this.#current;
    this.#current = null;
    current?.stream.close();
  }

  #tick(): void {
    if (this.#ended) return;
    const current = this.#current;
    if (current === null) {
      this.#begin();
      if (this.#current === null) this.#tell('away', 'no instance can be reached');
      return;
    }
    const listed = this.#spec.instances();
    if (listed.length > 0 && !listed.includes(current.address))
      this.#lose(current, 'the instance has gone', true);
    else if (!current.connected && performance.now() - current.sinceMs > OPEN_TIMEOUT_MS) {
      this.#lose(current, 'no answer', true);
    }
  }

  #begin(): void {
    const address = this.#choice.choose(this.#spec.key, this.#spec.instances(), performance.now());
    if (address === null) return;
    const stream = this.#spec.open(address);
    const current: Current<Out, In> = { address, stream, sinceMs: performance.now(), connected: false };
    this.#current = current;
    const { call } = stream;
    call.on('metadata', () => {
      current.connected = true;
      this.#choice.worked(address);
      if (this.#current === current) this.#tell('connected', '');
    });
    call.on('data', (message: In) => {
      if (this.#current === current) this.#events.message(message);
    });
    call.on('error', (error) => this.#lose(current, describeError(error), true));
    call.on('end', () => this.#lose(current, 'ended by the server', !current.connected));
    this.#events.opened();
  }

  #lose(current: Current<Out, In>, why: string, failed: boolean): void {
    if (this.#current !== current) return;
    this.#current = null;
    if (failed) this.#choice.failed(current.address, performance.now());
    this.#spec.log.debug({ stream: this.#spec.name, address: current.address, why }, 'stream lost');
    current.stream.close();
    const next = this.start();
    if (!next) this.#tell('away', `${current.address}: ${why}`);
    this.#events.lost(next);
  }

  #tell(state: 'connected' | 'away', why: string): void {
    if (this.#told === state) return;
    this.#told = state;
    const fields = { stream: this.#spec.name, address: this.#current?.address ?? null, why };
    if (state === 'connected') this.#spec.log.info(fields, `${this.#spec.name}: connected`);
    else this.#spec.log.warn(fields, `${this.#spec.name}: nobody answers, trying again`);
  }
}
