// SPDX-License-Identifier: Apache-2.0
// What a service still waits for, by name: it is ready when every item is.

export interface ReadinessReport {
  readonly ready: boolean;
  /** Item → why it is not ready. */
  readonly waiting: Readonly<Record<string, string>>;
}

export class Readiness {
  #items = new Map<string, string | null>();

  /** Says that `item` is ready, or why it is not. */
  set(item: string, ready: boolean, why = 'not yet'): void {
    this.#items.set(item, ready ? null : why);
  }

  report(): ReadinessReport {
    const waiting: Record<string, string> = {};
    for (const [item, why] of this.#items) if (why !== null) waiting[item] = why;
    return { ready: Object.keys(waiting).length === 0, waiting };
  }
}
