// SPDX-License-Identifier: Apache-2.0
// Brings all that watches nodes in line with a list of sessions, in the order in which nothing is told of a node before it has been looked at.

import type { BfdEngine } from './engine.js';
import type { SessionSpec } from './loop-messages.js';
import type { RouteWatch } from './route-watch.js';
import type { TcpChecks } from './tcp-checks.js';

export interface Watchers {
  readonly engine: Pick<BfdEngine, 'setSessions'>;
  readonly checks: Pick<TcpChecks, 'follow'>;
  readonly routes: Pick<RouteWatch, 'follow'>;
  /** Run from the first moment on, whatever else does. */
  readonly always: readonly SessionSpec[];
}

export class SessionKeeper {
  #latest = 0;
  #routed = false;

  constructor(private readonly watchers: Watchers) {
    const { always, engine } = watchers;
    if (always.length > 0) engine.setSessions(always, { partial: true });
  }

  /**
   * Routes are read first: a session that began before would say "down" of a node whose route is there. A list that is overtaken by another
   * one meanwhile never comes into force.
   * @returns whether it is in force
   */
  async follow(sessions: readonly SessionSpec[]): Promise<boolean> {
    const { engine, checks, routes, always } = this.watchers;
    const mine = ++this.#latest;
    const asksForRoutes = sessions.some(({ route }) => route !== undefined);
    // Also when the last of them goes: nobody watches on.
    if (asksForRoutes || this.#routed) await routes.follow(sessions);
    this.#routed = asksForRoutes;
    if (mine !== this.#latest) return false;
    engine.setSessions([...always, ...sessions]);
    checks.follow(sessions);
    return true;
  }
}
