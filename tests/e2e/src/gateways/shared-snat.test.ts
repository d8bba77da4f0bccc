// SPDX-License-Identifier: Apache-2.0
/** Two gateways give what leaves one SNAT address. Routers send what comes back to either, and a gateway dies under live connections. */
import { standardPorts } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
const MANY = CONNECTIONS / 5;
const SNAT = '198.51.100.1';

describe('two gateways with one SNAT address', () => {
  let pair: GatewayPair;
  let live: LiveConnections;

  beforeAll(async () => {
    pair = await raiseGatewayPair('shared-snat', {
      intent: (standard) => ({
        ...standard,
        gateways: (standard.gateways ?? []).map((gateway) => ({
          ...gateway,
          ports: (gateway.ports ?? []).map((port) =>
            port.kind === 'uplink' ? { ...port, snat: SNAT } : port,
          ),
        })),
      }),
    });
    const ways = ['nexthop', 'via', '10.0.20.1', 'nexthop', 'via', '10.0.21.1'];
    await pair.lab.exec('rout', ['ip', 'route', 'add', `${SNAT}/32`, ...ways]);
    await pair.lab.exec('server', ['ip', 'route', 'add', `${SNAT}/32`, 'via', '203.0.113.1']);
    live = await openLiveConnections(pair, CONNECTIONS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  /** Ends that the server is connected with. */
  const peers = async (): Promise<string[]> => {
    const filter = ['state', 'established', 'sport', '=', `:${standardPorts.echo}`];
    const { stdout } = await pair.lab.exec('server', ['ss', '-Htn', ...filter]);
    return stdout
      .trim()
      .split('\n')
      .map((line) => (line.trim().split(/\s+/)[3] ?? '').replace(/[[\]]|::ffff:/g, ''))
      .sort();
  };

  it('connections go out through one and come back through the other, each with one end outside', async () => {
    await live.exchanged(5);
    let oneWay = 0;
    for (const gateway of ['edge1', 'edge2']) {
      const flows = await pair.at(gateway).flows();
      const forward = flows.filter((row) => row.packetsForward > 5n && row.packetsReverse === 0n);
      oneWay += forward.length;
      const { drops } = await pair.at(gateway).counters();
      expect([drops.snat_unknown ?? 0n, drops.snat_full ?? 0n]).toEqual([0n, 0n]);
    }
    expect(oneWay).toBeGreaterThan(MANY);
    const ends = await peers();
    expect(new Set(ends).size).toBe(CONNECTIONS);
    expect(ends.filter((end) => !end.startsWith(`${SNAT}:`))).toEqual([]);
    await live.expectNoneBroken();
  });

  it('none breaks when a gateway dies, nor when it comes back and the other one dies', async () => {
    const before = await peers();
    await pair.killMachine('edge2');
    await awaitSpread(pair.routers, 1);
    await live.exchanged(20);
    await live.expectNoneBroken();
    await pair.reviveMachine('edge2');
    await live.exchanged(20);
    await pair.killMachine('edge1');
    await awaitSpread(pair.routers, 1);
    await live.exchanged(20);
    await live.expectNoneBroken();
    expect(await peers()).toEqual(before);
  });
});
