// SPDX-License-Identifier: Apache-2.0
/** Redis dies, then a gateway: what the living one knows goes on, the rest follows the hash, and nothing goes unserviced. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;

describe('Redis dies, then a gateway', () => {
  let pair: GatewayPair;
  let live: LiveConnections;

  beforeAll(async () => {
    pair = await raiseGatewayPair('redis-dies-first');
    live = await openLiveConnections(pair, CONNECTIONS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  /** The node of each flow at a gateway, by the client's address and port. */
  async function nodesAt(gateway: string): Promise<Map<string, string>> {
    const rows = await pair.at(gateway).flows();
    return new Map(
      rows.map(({ tuple, nodes }) => {
        const [address, port] = tuple?.sport === 8007 ? [tuple.dst, tuple.dport] : [tuple?.src, tuple?.sport];
        return [`${[...(address ?? [])].slice(12).join('.')}:${port}`, nodes.join()];
      }),
    );
  }

  it('connections that the living gateway knows go on; the others follow the hash, at the firewalls that refuse them where weights have changed', async () => {
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 300 });
    const known = await nodesAt('edge1');
    expect(known.size).toBeGreaterThan(CONNECTIONS / 2);
    expect(known.size).toBeLessThan(CONNECTIONS);
    const { decided: before } = await pair.at('edge1').status();
    await pair.stack.kill('redis');
    await pair.killMachine('edge2');
    await awaitSpread(pair.routers, 1);
    await live.exchanged(20, (connection) => known.has(connection));

    const now = await nodesAt('edge1');
    expect([...known].filter(([flow, node]) => now.get(flow) !== node)).toEqual([]);
    const others = [...live.firewalls].filter(([flow]) => !known.has(flow));
    const changed = others.filter(([flow, firewall]) => now.get(flow) !== firewall);
    console.info(
      `${known.size} known and unmoved; ${changed.length} of ${others.length} others changed their firewall`,
    );
    await live.exchanged(20, (connection) => !changed.some(([flow]) => flow === connection));
    expect(changed.length).toBeGreaterThan(0);
    expect(changed.length).toBeLessThan(others.length);

    // What came to a firewall that did not see it begin was dropped there: no connection is tracked anew, and none got past all of them.
    expect(await pair.refusals()).toBeGreaterThanOrEqual(changed.length);
    const { connections } = await live.connections.report();
    expect(connections.filter(({ corrupt }) => corrupt)).toEqual([]);
    expect(
      [...(await pair.firewallOfEach())].filter(([flow, firewall]) => live.firewalls.get(flow) !== firewall),
    ).toEqual([]);
    const { decided, alarms } = await pair.at('edge1').status();
    const since = (by: string): number => Number(decided[by] ?? 0n) - Number(before[by] ?? 0n);
    expect(since('controller') + since('last-tables')).toBeGreaterThanOrEqual(others.length);
    expect(since('redis')).toBe(0);
    expect(alarms.map(({ code }) => code)).toContain('redis_unreachable');
  });
});
