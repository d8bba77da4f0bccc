// SPDX-License-Identifier: Apache-2.0
/** TCP connections from the client to the server's echo port, and what share of them each firewall has. */
import { clientAddresses, standardAddresses, standardPorts } from '../standard-lab.js';
import type { TcpConnections } from '../traffic.js';
import { expectThat } from './act.js';
import { countPlaces, type Places, placesByConntrack, placesOf } from './places.js';
import type { Stage } from './stage.js';

/** The echo port, as conntrack has it. */
export const echoTcp = { protocol: 'tcp', destinationPort: standardPorts.echo } as const;

export interface Spread {
  readonly connections: TcpConnections;
  /** Firewall by near end, from their conntrack. */
  readonly places: Places;
  /** Share of these connections by firewall, 0 to 1. */
  readonly shares: ReadonlyMap<string, number>;
  readonly counts: ReadonlyMap<string, number>;
}

/**
 * Opens them and looks them up in both firewalls' conntrack.
 * @param messageMs each connection sends a numbered message this often and expects it back.
 * @throws Fault when one cannot be opened, or is in none or both of the firewalls.
 */
export async function openConnections(stage: Stage, total: number, messageMs: number): Promise<Spread> {
  const connections = await stage.traffic.openTcp({
    count: total,
    localAddresses: clientAddresses(16),
    remote: { address: standardAddresses.server, port: standardPorts.echo },
    concurrency: 64,
    intervalMs: messageMs,
  });
  expectThat(
    connections.opened === total,
    `opened ${connections.opened}, failed: ${JSON.stringify(connections.failed)}`,
  );
  const { connections: reports } = await connections.report();
  const places = placesOf(reports, await placesByConntrack(stage, echoTcp));
  const counts = countPlaces(reports, places);
  const shares = new Map([...counts].map(([node, found]) => [node, found / total] as const));
  return { connections, places, shares, counts };
}
