// SPDX-License-Identifier: Apache-2.0
/** A gateway dies and comes back under live connections, which each firewall drops if it did not see them begin. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
/** Enough of them that chance does not explain it. */
const MANY = CONNECTIONS / 5;

describe('of two gateways one dies', () => {
  let pair: GatewayPair;
  let live: LiveConnections;

  beforeAll(async () => {
    pair = await raiseGatewayPair('gateway-dies');
    live = await openLiveConnections(pair, CONNECTIONS);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  it('connections spread over both, and go out through one and come back through the other', async () => {
    await live.exchanged(5);
    for (const gateway of ['edge1', 'edge2']) {
      const flows = await pair.at(gateway).flows();
      const forward = flows.filter(({ packetsForward }) => packetsForward > 5n);
      const reverse = flows.filter(({ packetsReverse }) => packetsReverse > 5n);
      const oneWay = flows.filter((row) => forward.includes(row) !== reverse.includes(row));
      for (const some of [forward, reverse, oneWay]) expect(some.length).toBeGreaterThan(MANY);
    }
    await live.expectNoneBroken();
  });

  it('no connection breaks and none changes its firewall when a machine dies with all that runs on it, though the hash would choose others by now', async () => {
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 300 });
    await pair.killMachine('edge2');
    await awaitSpread(pair.routers, 1);
    await live.exchanged(20);
    await live.expectNoneBroken();
  });

  it('nor when it comes back', async () => {
    await pair.reviveMachine('edge2');
    await live.exchanged(20);
    await live.expectNoneBroken();
  });

  it('nor when the other one dies then, with every controller and NATS dead as well: Redis is enough', async () => {
    await pair.reweigh({ fw1: 300, fw2: 100, fw3: 10 });
    for (const id of ['classifier', 'path-selector', 'stats-collector', 'nats']) await pair.stack.kill(id);
    await pair.killMachine('edge1');
    await awaitSpread(pair.routers, 1);
    await live.exchanged(20);
    await live.expectNoneBroken();
    const { decided } = await pair.at('edge2').status();
    expect(Number(decided.redis)).toBeGreaterThan(MANY);
    expect(Number(decided['last-tables'])).toBe(0);
  });
});
