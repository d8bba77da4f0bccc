// SPDX-License-Identifier: Apache-2.0
// Alarms of one process: held here, written to the state bucket and published whenever NATS is there.
import { type AlarmCode, type AlarmValue, alarmSubject, stateKey } from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import type { Bus } from './connection.js';
import type { State } from './state.js';

export interface ActiveAlarm {
  readonly code: AlarmCode;
  readonly subject: string;
  readonly text: string;
  readonly sinceMs: number;
}

/** Message on `detour.alarm.<code>`. */
export interface AlarmEvent extends ActiveAlarm {
  readonly source: string;
  readonly active: boolean;
  readonly atMs: number;
}

export interface AlarmBookSpec {
  readonly bus: Bus;
  readonly state: State;
  /** Who raises, in key grammar; the same after a restart. */
  readonly source: string;
  readonly clock: Clock;
  readonly log: Log;
}

const RETRY_MS = 500;
const token = (text: string) => text.replace(/[^A-Za-z0-9_/=-]/g, '_');

export class AlarmBook implements AsyncDisposable {
  #spec: AlarmBookSpec;
  #active = new Map<string, ActiveAlarm>();
  #dirty = new Set<string>();
  #writing: Promise<void> | null = null;
  #sweepLeftovers = true;
  #cancel = () => {};
  #off: () => void;
  #ended = false;

  constructor(spec: AlarmBookSpec) {
    this.#spec = spec;
    this.#off = spec.bus.onConnectionChange((connected) => {
      if (!connected) return;
      for (const key of this.#active.keys()) this.#dirty.add(key); // the store may have been lost
      this.#kick();
    });
    this.#kick();
  }

  /** Raises an alarm; once more with the same text does nothing. `subject` '' when there is but one. */
  raise(code: AlarmCode, subject: string, text: string): void {
    const key = this.#key(code, subject);
    const before = this.#active.get(key);
    if (before?.text === text) return;
    const sinceMs = before?.sinceMs ?? this.#spec.clock.nowMs();
    const alarm = { code, subject, text, sinceMs };
    this.#active.set(key, alarm);
    if (before === undefined) this.#spec.log.warn({ alarm: code, subject }, `alarm: ${text}`);
    this.#changed(key, alarm, true);
  }

  /** Clears an alarm; one that is not raised is no error. */
  clear(code: AlarmCode, subject: string): void {
    const key = this.#key(code, subject);
    const alarm = this.#active.get(key);
    if (alarm === undefined) return;
    this.#active.delete(key);
    this.#spec.log.info({ alarm: code, subject }, `alarm cleared: ${alarm.text}`);
    this.#changed(key, alarm, false);
  }

  active(): readonly ActiveAlarm[] {
    return [...this.#active.values()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    this.#ended = true;
    this.#off();
    this.#cancel();
  }

  #key(code: string, subject: string): string {
    return stateKey.alarm(token(this.#spec.source), token(code), token(subject));
  }

  #changed(key: string, alarm: ActiveAlarm, active: boolean): void {
    const { bus, source, clock } = this.#spec;
    const event: AlarmEvent = { ...alarm, source, active, atMs: clock.nowMs() };
    bus.publish(alarmSubject(token(alarm.code)), event);
    this.#dirty.add(key);
    this.#kick();
  }

  #kick(): void {
    if (this.#writing !== null || this.#ended) return;
    this.#cancel();
    this.#writing = this.#write().then((done) => {
      this.#writing = null;
      if (!done && !this.#ended) this.#cancel = this.#spec.clock.after(RETRY_MS, () => this.#kick());
    });
  }

  /** Brings the bucket in step; false when something is left to do. */
  async #write(): Promise<boolean> {
    const { bus, state, log } = this.#spec;
    if (!bus.connected) return true; // the connection's return starts it again
    try {
      if (this.#sweepLeftovers) await this.#markLeftovers();
      for (let [key] = this.#dirty; key !== undefined; [key] = this.#dirty) {
        this.#dirty.delete(key);
        const alarm = this.#active.get(key);
        try {
          if (alarm === undefined) await state.delete(key);
          else {
            const value: AlarmValue = { text: alarm.text, sinceMs: alarm.sinceMs, active: true };
            await state.put(key, value);
          }
        } catch (error) {
          this.#dirty.add(key);
          throw error;
        }
      }
      return true;
    } catch (error) {
      log.debug({ error: describeError(error) }, 'alarms are not written yet');
      return false;
    }
  }

  /** What a former life of this source left in the bucket is written anew or deleted. */
  async #markLeftovers(): Promise<void> {
    const { kv } = await this.#spec.state.session();
    const mine = `${stateKey.alarm(token(this.#spec.source), '', '').split('.').slice(0, 2).join('.')}.>`;
    for await (const key of await kv.keys(mine)) this.#dirty.add(key);
    this.#sweepLeftovers = false;
  }
}
