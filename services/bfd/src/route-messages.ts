// SPDX-License-Identifier: Apache-2.0
// What passes between the main thread and the route thread.

/** Routes that must be in a table by a device. */
export interface RouteWatchSpec {
  /** Of the session whose node it is. */
  readonly id: string;
  readonly table: number;
  readonly device: string;
  /** Canonical text: 198.51.100.0/24. */
  readonly prefixes: readonly string[];
}

/** Which of a session's prefixes have no route by its device; none: all is well. */
export interface RouteRow {
  readonly id: string;
  readonly missing: readonly string[];
}

export type RouteOrder =
  | { readonly kind: 'watch'; readonly specs: readonly RouteWatchSpec[]; readonly ask: number }
  | { readonly kind: 'stop' };

export type RouteReport =
  /** Sent once: the eventfd whose writing wakes the thread for orders. */
  | { readonly kind: 'started'; readonly wakeFd: number }
  | { readonly kind: 'changed'; readonly rows: readonly RouteRow[] }
  /** The order to watch was carried out; these are all. */
  | { readonly kind: 'watching'; readonly ask: number; readonly rows: readonly RouteRow[] };
