// SPDX-License-Identifier: Apache-2.0
/** TCP connections that go out through one gateway and come back through the other, while the two select by different weights. */
import { clientAddresses, standardAddresses, standardPorts, type TcpConnections, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cutOff, mend } from './cut-off.js';
import { type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
/** A SYN is sent again after a second, and that one is asked about. */
const OPEN_MS = 2_500;

describe('two gateways that select by different weights', () => {
  let pair: GatewayPair;
  let connections: TcpConnections;
  let firewalls: ReadonlyMap<string, string>;
  let refused: number;

  /** All are open and unaltered and had more answers, each at the firewall where it was, and no firewall refused a packet since. */
  const expectNoneBroken = async (): Promise<void> => {
    const received = async () => (await connections.report()).connections.map((row) => row.received);
    const before = await received();
    const moreOnEach = async () => (await received()).every((now, i) => now >= (before[i] ?? 0) + 5);
    await waitFor(moreOnEach, { what: '5 more answers on each connection', timeoutMs: 20_000, everyMs: 50 });
    const { connections: rows } = await connections.report();
    expect(rows.filter(({ isOpen, corrupt }) => !isOpen || corrupt)).toEqual([]);
    expect(await pair.firewallOfEach()).toEqual(firewalls);
    expect(await pair.refusals()).toBe(refused);
  };

  beforeAll(async () => {
    pair = await raiseGatewayPair('pair-openings');
    await cutOff(pair.lab, 'edge2', ['nats', 'controllers']);
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 1_000 }, ['edge1']);
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  it('every connection opens, at the latest with its second SYN, and goes one way from then on', async () => {
    const [one, two] = await Promise.all([pair.at('edge1').shares(), pair.at('edge2').shares()]);
    expect(one?.fw1).toBeLessThan((two?.fw1 ?? 0) / 2);
    connections = await pair.client.openTcp({
      ...{ count: CONNECTIONS, localAddresses: clientAddresses(16), intervalMs: 100, timeoutMs: OPEN_MS },
      remote: { address: standardAddresses.server, port: standardPorts.echo },
    });
    refused = await pair.refusals();
    console.info(`${refused} answers came to another firewall first`);
    expect(connections).toMatchObject({ opened: CONNECTIONS, failed: {} });
    expect(refused).toBeGreaterThan(10);
    firewalls = await waitFor(
      async () => {
        const known = await pair.firewallOfEach();
        return known.size === CONNECTIONS && known; // the last ACK is on its way
      },
      { what: 'a firewall of each connection' },
    );
    await expectNoneBroken();
  });

  it('and nothing changes once both hear of the same weights', async () => {
    await mend(pair.lab, 'edge2');
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 1_000 });
    await expectNoneBroken();
  });
});
