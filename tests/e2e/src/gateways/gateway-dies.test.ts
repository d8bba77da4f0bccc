// SPDX-License-Identifier: Apache-2.0
/** A gateway dies and comes back under live connections, which each firewall drops if it did not see them begin. */
import { clientAddresses, standardAddresses, standardPorts, type TcpConnections, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;

describe('of two gateways one dies', () => {
  let pair: GatewayPair;
  let connections: TcpConnections;
  let before: Map<string, string>;

  beforeAll(async () => {
    pair = await raiseGatewayPair('gateway-dies');
    connections = await pair.client.openTcp({
      ...{ count: CONNECTIONS, localAddresses: clientAddresses(16), intervalMs: 100 },
      remote: { address: standardAddresses.server, port: standardPorts.echo },
    });
    expect(connections).toMatchObject({ opened: CONNECTIONS, failed: {} });
    await exchanged(5);
    before = await pair.firewallOfEach();
    expect(before.size).toBe(CONNECTIONS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  /** Every connection got this many more answers. */
  async function exchanged(more: number): Promise<void> {
    const { connections: now } = await connections.report();
    const least = new Map(
      now.map(({ localAddress, localPort, received }) => [`${localAddress}:${localPort}`, received + more]),
    );
    await waitFor(
      async () =>
        (await connections.report()).connections.every(
          ({ localAddress, localPort, received }) =>
            received >= (least.get(`${localAddress}:${localPort}`) ?? 0),
        ),
      { what: `${more} more answers on each connection`, timeoutMs: 20_000, everyMs: 50 },
    ).catch(async (error: unknown) => {
      const { connections: rows } = await connections.report();
      const behind = rows.filter(
        ({ localAddress, localPort, received }) =>
          received < (least.get(`${localAddress}:${localPort}`) ?? 0),
      );
      throw new Error(`${behind.length} are behind: ${JSON.stringify(behind.slice(0, 3))}`, { cause: error });
    });
  }

  async function expectNoneBroken(): Promise<void> {
    const { connections: rows } = await connections.report();
    expect(rows.filter(({ isOpen, corrupt }) => !isOpen || corrupt)).toEqual([]);
    const now = await pair.firewallOfEach();
    expect([...before].filter(([flow, firewall]) => now.get(flow) !== firewall)).toEqual([]);
    expect(now.size).toBe(CONNECTIONS);
  }

  /** Other capacities, in force at both gateways: new flows would be spread otherwise. */
  async function reweigh(capacities: Readonly<Record<string, number>>): Promise<void> {
    const nodes = (pair.intent.nodes ?? []).map((node) => ({
      ...node,
      capacity: capacities[node.name] ?? 100,
    }));
    await pair.apply({ ...pair.intent, nodes });
    await waitFor(
      async () => {
        const tables = await Promise.all(['edge1', 'edge2'].map((gateway) => pair.at(gateway).shares()));
        return tables.every(
          ({ fw1 = 0, fw3 = 0 }) => fw3 > fw1 === (capacities.fw3 ?? 0) > (capacities.fw1 ?? 0),
        );
      },
      { what: `${JSON.stringify(capacities)} at both gateways`, timeoutMs: 20_000, everyMs: 50 },
    );
  }

  it('connections spread over both, and go out through one and come back through the other', async () => {
    await exchanged(5);
    const rows = await Promise.all(['edge1', 'edge2'].map((gateway) => pair.at(gateway).flows()));
    const through = rows.map((flows) => ({
      forward: flows.filter(({ packetsForward }) => packetsForward > 5n).length,
      reverse: flows.filter(({ packetsReverse }) => packetsReverse > 5n).length,
      oneWay: flows.filter(
        ({ packetsForward, packetsReverse }) => packetsForward > 5n !== packetsReverse > 5n,
      ).length,
    }));
    console.info(JSON.stringify(through));
    for (const { forward, reverse, oneWay } of through) {
      expect(forward).toBeGreaterThan(CONNECTIONS / 5);
      expect(reverse).toBeGreaterThan(CONNECTIONS / 5);
      expect(oneWay).toBeGreaterThan(CONNECTIONS / 5);
    }
    await expectNoneBroken();
    expect(await pair.refusals()).toBe(0);
  });

  it('no connection breaks and none changes its firewall when a machine dies with all that runs on it, though the hash would choose others by now', async () => {
    await reweigh({ fw1: 10, fw2: 100, fw3: 300 });
    await pair.killMachine('edge2');
    await awaitSpread(pair.routers, 1);
    await exchanged(20);
    await expectNoneBroken();
    expect(await pair.refusals()).toBe(0);
  });

  it('nor when it comes back', async () => {
    await pair.reviveMachine('edge2');
    await exchanged(20);
    await expectNoneBroken();
    expect(await pair.refusals()).toBe(0);
  });

  it('nor when the other one dies then, with every controller and NATS dead as well: Redis is enough', async () => {
    await reweigh({ fw1: 300, fw2: 100, fw3: 10 });
    for (const id of ['classifier', 'path-selector', 'stats-collector', 'nats']) await pair.stack.kill(id);
    await pair.killMachine('edge1');
    await awaitSpread(pair.routers, 1);
    await exchanged(20);
    await expectNoneBroken();
    expect(await pair.refusals()).toBe(0);
    const { decided } = await pair.at('edge2').status();
    expect(Number(decided.redis)).toBeGreaterThan(CONNECTIONS / 5);
    expect(Number(decided['last-tables'])).toBe(0);
  });
});
