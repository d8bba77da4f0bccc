// SPDX-License-Identifier: Apache-2.0
/**
 * What several gateways measured of one node, and the one value that is made of it (ADR 0025). Pure but for what it holds.
 *
 * Times and shares are means, each gateway counting alike: one whose own way to the node is bad does not take the node from all. Amounts are
 * sums: each gateway sees its own part. Gateways count in the order of their names, so that all replicas add the same numbers up alike.
 */
import { CONNECTION_ATTRIBUTES, type ConnectionAttribute } from '@detour/intent';
import type { Measured } from './attributes.js';

const MERGE: Readonly<Record<ConnectionAttribute, 'mean' | 'sum'>> = {
  rttMs: 'mean',
  loss: 'mean',
  flows: 'sum',
  bytesPerSecond: 'sum',
  dropsPerSecond: 'sum',
  retransmissions: 'mean',
};

export interface Merged {
  readonly value: number;
  /** Monotonic ms: when the oldest of them becomes too old, so that the value may change. */
  readonly dueMs: number;
  /** Who said what, for people. */
  readonly from: string;
}

interface Heard {
  readonly value: number;
  /** Monotonic ms of this process. */
  readonly atMs: number;
}

/** Gateways that are named one by one where people ask whose word it is. */
const MAX_SHOWN = 8;

export function isConnection(name: string): name is ConnectionAttribute {
  return CONNECTION_ATTRIBUTES.some((known) => known === name);
}

export class GatewayReadings {
  readonly #heard = new Map<ConnectionAttribute, Map<string, Heard>>();

  /** Values that are no gateway's to measure are passed over. */
  take(gateway: string, values: ReadonlyMap<Measured, number>, atMs: number): void {
    for (const [name, value] of values) {
      if (!isConnection(name)) continue;
      const of = this.#heard.get(name) ?? new Map<string, Heard>();
      this.#heard.set(name, of);
      if ((of.get(gateway)?.atMs ?? Number.NEGATIVE_INFINITY) <= atMs) of.set(gateway, { value, atMs });
    }
  }

  /** Forgets gateways that are no longer declared. */
  keepOnly(gateways: ReadonlySet<string>): void {
    for (const of of this.#heard.values())
      for (const gateway of of.keys()) if (!gateways.has(gateway)) of.delete(gateway);
  }

  /** When any gateway last said something of it; null: never. */
  lastMs(name: ConnectionAttribute): number | null {
    const times = [...(this.#heard.get(name)?.values() ?? [])].map(({ atMs }) => atMs);
    return times.length === 0 ? null : Math.max(...times);
  }

  /** null when no gateway said anything of it within `staleAfterMs`. */
  merged(name: ConnectionAttribute, nowMs: number, staleAfterMs: number): Merged | null {
    const fresh = [...(this.#heard.get(name) ?? [])]
      .filter(([, { atMs }]) => nowMs <= atMs + staleAfterMs)
      .sort(([x], [y]) => (x < y ? -1 : 1));
    if (fresh.length === 0) return null;
    const sum = fresh.reduce((all, [, { value }]) => all + value, 0);
    const how = MERGE[name];
    const shown = fresh
      .slice(0, MAX_SHOWN)
      .map(([gateway, { value }]) => `${gateway} ${Number(value.toPrecision(6))}`);
    if (fresh.length > MAX_SHOWN) shown.push(`${fresh.length - MAX_SHOWN} more`);
    return {
      value: how === 'mean' ? sum / fresh.length : sum,
      dueMs: Math.min(...fresh.map(([, { atMs }]) => atMs)) + staleAfterMs,
      from: `${how} of ${shown.join(', ')}`,
    };
  }

  names(): ConnectionAttribute[] {
    return [...this.#heard.keys()];
  }
}
