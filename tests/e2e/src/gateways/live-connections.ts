// SPDX-License-Identifier: Apache-2.0
/** Many connections through two gateways, each exchanging a numbered message every 100 ms, and the firewall that each began with. */
import { clientAddresses, standardAddresses, standardPorts, type TcpConnections, waitFor } from '@detour/lab';
import { expect } from 'vitest';
import type { GatewayPair } from './pair-of-gateways.js';

export interface LiveConnections {
  readonly connections: TcpConnections;
  /** Firewall by the client's address and port. */
  readonly firewalls: ReadonlyMap<string, string>;
  /** Resolves when each of them (default: all) got this many more answers. */
  exchanged(more: number, among?: (connection: string) => boolean): Promise<void>;
  /** All are open and unaltered, each at the firewall that it began with and at no other, and no firewall refused a packet. */
  expectNoneBroken(): Promise<void>;
}

export async function openLiveConnections(pair: GatewayPair, count: number): Promise<LiveConnections> {
  const connections = await pair.client.openTcp({
    ...{ count, localAddresses: clientAddresses(16), intervalMs: 100 },
    remote: { address: standardAddresses.server, port: standardPorts.echo },
  });
  expect(connections).toMatchObject({ opened: count, failed: {} });
  const received = async (): Promise<Map<string, number>> => {
    const { connections: rows } = await connections.report();
    return new Map(rows.map((row) => [`${row.localAddress}:${row.localPort}`, row.received]));
  };
  const exchanged: LiveConnections['exchanged'] = async (more, among = () => true) => {
    const before = await received();
    const behind = async (): Promise<string[]> =>
      [...(await received())].flatMap(([id, now]) =>
        among(id) && now < (before.get(id) ?? 0) + more ? [id] : [],
      );
    await waitFor(async () => (await behind()).length === 0, {
      ...{ what: `${more} more answers on each connection`, timeoutMs: 20_000, everyMs: 50 },
    }).catch(async (error: unknown) => {
      const left = await behind();
      throw new Error(`${left.length} are behind, among them ${left.slice(0, 5)}`, { cause: error });
    });
  };
  await exchanged(5);
  const firewalls = await pair.firewallOfEach();
  expect(firewalls.size).toBe(count);
  return {
    connections,
    firewalls,
    exchanged,
    async expectNoneBroken() {
      const { connections: rows } = await connections.report();
      expect(rows.filter(({ isOpen, corrupt }) => !isOpen || corrupt)).toEqual([]);
      const now = await pair.firewallOfEach();
      expect([...firewalls].filter(([flow, firewall]) => now.get(flow) !== firewall)).toEqual([]);
      expect(now.size).toBe(count);
      expect(await pair.refusals()).toBe(0);
    },
  };
}
