// SPDX-License-Identifier: Apache-2.0
/** Which firewall each connection goes through: as the firewalls' conntrack has it, and as the gateway has it. */
import { Fault } from '@detour/core';
import type { TcpConnectionReport } from '../agents/protocol.js';
import type { ConntrackFilter } from '../conntrack.js';
import type { FlowRow } from './detour.js';
import type { Stage } from './stage.js';

/** A connection's near end: `10.1.0.10:40000`. */
export type NearEnd = string;

/** Node by near end. */
export type Places = ReadonlyMap<NearEnd, string>;

export function nearEnd(at: { readonly localAddress: string; readonly localPort: number }): NearEnd {
  return `${at.localAddress}:${at.localPort}`;
}

/**
 * From both firewalls' conntrack.
 * @throws Fault `internal` when both know the same connection.
 */
export async function placesByConntrack(stage: Stage, filter: ConntrackFilter): Promise<Places> {
  const places = new Map<NearEnd, string>();
  for (const firewall of [stage.fw1, stage.fw2]) {
    for (const row of await firewall.conntrack(filter)) {
      const end = `${row.source}:${row.sourcePort}`;
      const other = places.get(end);
      if (other !== undefined)
        throw new Fault('internal', `${end} is in the conntrack of ${other} and of ${firewall.name}`);
      places.set(end, firewall.name);
    }
  }
  return places;
}

/** From `detour get flows`: flows that are steered. */
export function placesOfFlows(flows: readonly FlowRow[], protocol: string): Places {
  return new Map(
    flows
      .filter((flow) => flow.protocol === protocol && flow.nodes.length > 0)
      .map((flow) => [`${flow.source}:${flow.sourcePort}`, flow.nodes.join(' → ')] as const),
  );
}

export interface Comparison {
  readonly stayed: number;
  readonly moved: number;
  readonly gone: number;
}

/** How the ends of `before` fare in `after`. */
export function comparePlaces(before: Places, after: Places): Comparison {
  const found = [...before].map(([end, node]) => ({ node, now: after.get(end) }));
  return {
    stayed: found.filter(({ node, now }) => now === node).length,
    moved: found.filter(({ node, now }) => now !== undefined && now !== node).length,
    gone: found.filter(({ now }) => now === undefined).length,
  };
}

/** How many of the connections are at each node. @throws Fault `internal` naming one that no node knows. */
export function countPlaces(
  connections: readonly TcpConnectionReport[],
  places: Places,
): Map<string, number> {
  const counts = new Map<string, number>();
  for (const connection of connections) {
    const node = places.get(nearEnd(connection));
    if (node === undefined)
      throw new Fault('internal', `connection ${nearEnd(connection)} is in no firewall's conntrack`);
    counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

/** Only the ends of these connections. */
export function placesOf(connections: readonly TcpConnectionReport[], places: Places): Places {
  const ends = new Set(connections.map(nearEnd));
  return new Map([...places].filter(([end]) => ends.has(end)));
}
