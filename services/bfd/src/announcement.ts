// SPDX-License-Identifier: Apache-2.0

/*
 * Whether routers are to send traffic to this gateway. They are, once tunnel-gw has said that it steers and the health of its nodes is known;
 * until somebody objects, or tunnel-gw has been silent for longer than its grace. The datapath steers on without tunnel-gw, so a short
 * restart is no reason to go; a long absence is one, for nobody answers for flows that begin and nodes that die.
 *
 * What a predecessor had announced stays so for the grace, as if tunnel-gw had spoken when this process began.
 */

import type { Clock } from '@detour/core';

export interface Announced {
  readonly announced: boolean;
  /** Not: why, for people; '' when announced. */
  readonly why: string;
}

/** Who may object, whatever tunnel-gw says. */
export type Objector = 'datapath' | 'drain';

export interface AnnouncementSpec {
  readonly clock: Clock;
  readonly graceMs: number;
  /** The predecessor had announced it. */
  readonly announced: boolean;
  /** Called with every change. */
  readonly onChange: (now: Announced) => void;
}

export class Announcement implements Disposable {
  readonly #spec: AnnouncementSpec;
  readonly #objections = new Map<Objector, string>();
  #heard: 'never' | 'lately' | 'long-ago' = 'never';
  #settled = false;
  #state: Announced;
  #cancel = () => {};

  constructor(spec: AnnouncementSpec) {
    this.#spec = spec;
    this.#state = { announced: spec.announced, why: '' };
    if (spec.announced) this.heard();
    else this.#state = { announced: false, why: this.#whyNot() };
  }

  get state(): Announced {
    return this.#state;
  }

  /** An operator's wish, and no failure. */
  get isDrained(): boolean {
    return this.#objections.has('drain');
  }

  /** tunnel-gw is there, and steers. */
  heard(): void {
    const { clock, graceMs } = this.#spec;
    this.#heard = 'lately';
    this.#cancel();
    this.#cancel = clock.after(graceMs, () => {
      this.#heard = 'long-ago';
      this.#judge();
    });
    this.#judge();
  }

  /** The health of nodes is known: a gateway that comes up is not announced before. */
  settled(): void {
    this.#settled = true;
    this.#judge();
  }

  /** It must not be announced, and why, at once; null: this objector has nothing against it any more. */
  object(by: Objector, why: string | null): void {
    if (why === null) this.#objections.delete(by);
    else this.#objections.set(by, why);
    this.#judge();
  }

  #whyNot(): string {
    const { graceMs } = this.#spec;
    const [objection] = this.#objections.values();
    if (objection !== undefined) return objection;
    if (this.#heard === 'never') return 'tunnel-gw has not said yet that it steers';
    if (this.#heard === 'long-ago')
      return `tunnel-gw has been away for ${graceMs / 1000} s (DETOUR_ANNOUNCE_GRACE)`;
    return this.#state.announced || this.#settled ? '' : 'the health of nodes is not known yet';
  }

  #judge(): void {
    const why = this.#whyNot();
    const next = { announced: why === '', why };
    if (next.announced === this.#state.announced && next.why === this.#state.why) return;
    this.#state = next;
    this.#spec.onChange(next);
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }
}
