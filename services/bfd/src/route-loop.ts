// SPDX-License-Identifier: Apache-2.0

/*
 * The route thread's loop: which routes that nodes must have advertised are in the kernel's tables.
 *
 * An event never changes what is known; it only says which watch to look after. Then the kernel is asked for that table's routes by that
 * device, and its answer is the truth. So it does not matter whether a route was replaced, appended to, taken with its next hop, or
 * whether the event was lost: lost events (ENOBUFS), and every change of devices, addresses and next hops, look after all watches. Against what no
 * event tells, all are looked after every ten seconds.
 *
 * It is a thread of its own because a routing daemon that learns a full table says a million things in a few seconds, and the thread that
 * times BFD must not listen to them.
 */

import { C, lastFault, libc } from './libc.js';
import { nowUs } from './monotonic.js';
import { PollSet } from './poll-set.js';
import type { RouteOrder, RouteReport, RouteRow, RouteWatchSpec } from './route-messages.js';
import { RouteEventSocket, RouteQuestionSocket } from './route-sockets.js';
import type { RouteEvent } from './route-wire.js';

const rereadEveryUs = 10_000_000;
/** A table that did not hold still is read again after this. */
const retryUs = 20_000;

/** How the loop reaches its surroundings. */
export interface RoutePorts {
  /** The next order, or undefined; must not wait. */
  readonly takeOrder: () => RouteOrder | undefined;
  readonly report: (report: RouteReport) => void;
}

interface Watch {
  readonly spec: RouteWatchSpec;
  /** Null: not read yet. */
  missing: readonly string[] | null;
}

export class RouteLoop {
  /** Writing eight bytes here (eventfd(2)) ends the loop's waiting. */
  readonly wakeFd: number;
  readonly #ports: RoutePorts;
  readonly #events: RouteEventSocket;
  readonly #questions = new RouteQuestionSocket();
  readonly #dirty = new Set<Watch>();
  #watches: readonly Watch[] = [];
  /** Watches by table and prefix. */
  #concerned = new Map<string, Watch[]>();
  #stopped = false;

  /** Opens all sockets. @throws Fault */
  constructor(ports: RoutePorts) {
    this.#ports = ports;
    this.#events = new RouteEventSocket();
    this.wakeFd = libc().eventfd(0, C.EFD_CLOEXEC | C.EFD_NONBLOCK);
    if (this.wakeFd < 0) throw lastFault('eventfd');
  }

  /** Runs until the order `stop`; blocks the thread. */
  run(): void {
    const poll = new PollSet([this.#events.fd, this.wakeFd]);
    let rereadAtUs = nowUs() + rereadEveryUs;
    while (!this.#stopped) {
      poll.wait(this.#dirty.size > 0 ? retryUs : rereadAtUs - nowUs());
      if (poll.ready(0)) this.#events.read((event) => this.#mark(event));
      if (nowUs() >= rereadAtUs) {
        this.#mark({ kind: 'anything' });
        rereadAtUs = nowUs() + rereadEveryUs;
      }
      this.#lookAfter();
      if (poll.ready(1)) this.#takeOrders();
    }
    this.#events.close();
    this.#questions.close();
    libc().close(this.wakeFd);
  }

  #mark(event: RouteEvent): void {
    const watches =
      event.kind === 'route' ? this.#concerned.get(keyOf(event.table, event.prefix)) : this.#watches;
    for (const watch of watches ?? []) this.#dirty.add(watch);
  }

  #lookAfter(): void {
    const changed: RouteRow[] = [];
    for (const watch of [...this.#dirty]) {
      const missing = this.#missingOf(watch.spec);
      if (missing === null) continue; // stays to be looked after
      this.#dirty.delete(watch);
      if (watch.missing?.join() === missing.join()) continue;
      watch.missing = missing;
      changed.push({ id: watch.spec.id, missing });
    }
    if (changed.length > 0) this.#ports.report({ kind: 'changed', rows: changed });
  }

  /** Null while the table does not hold still. */
  #missingOf({ table, device, prefixes }: RouteWatchSpec): string[] | null {
    const ifindex = libc().ifNametoindex(device);
    if (ifindex === 0) return [...prefixes];
    const missing: string[] = [];
    for (const family of [4, 6] as const) {
      const asked = prefixes.filter((prefix) => prefix.includes(':') === (family === 6));
      if (asked.length === 0) continue;
      const found = this.#questions.prefixesBy(table, ifindex, family);
      if (found === null) return null;
      missing.push(...asked.filter((prefix) => !found.has(prefix)));
    }
    return missing;
  }

  #takeOrders(): void {
    libc().read(this.wakeFd, new Uint8Array(8), 8);
    for (let order = this.#ports.takeOrder(); order !== undefined; order = this.#ports.takeOrder()) {
      if (order.kind === 'stop') {
        this.#stopped = true;
        return;
      }
      this.#watch(order.specs);
      const rows = this.#watches.map(({ spec, missing }) => ({ id: spec.id, missing: missing ?? [] }));
      this.#ports.report({ kind: 'watching', ask: order.ask, rows });
    }
  }

  /** Takes the list over; afterwards every watch has been read. */
  #watch(specs: readonly RouteWatchSpec[]): void {
    const before = new Map(this.#watches.map((watch) => [JSON.stringify(watch.spec), watch]));
    this.#watches = specs.map((spec) => before.get(JSON.stringify(spec)) ?? { spec, missing: null });
    this.#concerned = new Map();
    for (const watch of this.#watches)
      for (const prefix of watch.spec.prefixes) {
        const key = keyOf(watch.spec.table, prefix);
        this.#concerned.set(key, [...(this.#concerned.get(key) ?? []), watch]);
      }
    this.#dirty.clear();
    for (const watch of this.#watches) this.#dirty.add(watch);
    this.#lookAfter();
    // What is not known counts as missing: a node is not used on a guess.
    for (const watch of this.#watches) watch.missing ??= watch.spec.prefixes;
  }
}

function keyOf(table: number, prefix: string): string {
  return `${table} ${prefix}`;
}
