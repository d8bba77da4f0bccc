// SPDX-License-Identifier: Apache-2.0
/** tunnel-gw of another ABI is replaced under live traffic, with Redis dead so that only the kernel's own records can be gone by: nothing is lost. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  clientAddresses,
  processOf,
  standardAddresses,
  standardPorts,
  type TcpConnections,
  waitFor,
} from '@detour/lab';
import { makeOtherAbi, type OtherAbi } from '@detour/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
const MEANWHILE = 40;
const GATEWAYS = ['edge1', 'edge2'] as const;
const remote = { address: standardAddresses.server, port: standardPorts.echo };

describe('an upgrade with another ABI', () => {
  let pair: GatewayPair;
  let live: LiveConnections;
  let abi: OtherAbi;
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'detour-abi-'));
    abi = makeOtherAbi(directory);
    pair = await raiseGatewayPair('abi-upgrade', {
      env: (service) => (service === 'tunnel-gw' ? abi.env : { DETOUR_ANNOUNCE_GRACE: '60s' }),
    });
    live = await openLiveConnections(pair, CONNECTIONS);
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 300 }); // what is not known would go elsewhere from here on
    await pair.stack.kill('redis');
  }, 180_000);
  afterAll(async () => {
    await pair?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const pins = (gateway: string): string[] => readdirSync(`${pair.lab.pinPrefix}${gateway}`);

  /** Packets of each flow at a gateway that is some time old, by the client's address and port. */
  async function packets(gateway: string): Promise<Map<string, { sum: bigint; ageMs: bigint }>> {
    const rows = await pair.at(gateway).flows();
    return new Map(
      rows.map(({ tuple, packetsForward, packetsReverse, ageMs }) => [
        JSON.stringify([[...(tuple?.src ?? [])], tuple?.sport, [...(tuple?.dst ?? [])], tuple?.dport]),
        { sum: packetsForward + packetsReverse, ageMs },
      ]),
    );
  }

  /** What was dropped there, but for packets of flows that begin while nobody is there to decide them. */
  async function drops(gateway: string): Promise<Record<string, bigint>> {
    const { punt_full, decision_timeout, ...others } = (await pair.at(gateway).counters()).drops;
    return others;
  }

  /** One stops, the other starts; connections begin in between, and some of them wait for it. */
  async function upgrade(gateway: string): Promise<TcpConnections> {
    const id = processOf('tunnel-gw', gateway);
    const [flows, dropped] = [await packets(gateway), await drops(gateway)];
    expect(flows.size).toBeGreaterThan(CONNECTIONS / 2);
    const beganMs = performance.now();
    await pair.stack.stop(id);
    const opening = pair.client.openTcp({
      ...{
        remote,
        count: MEANWHILE,
        localAddresses: clientAddresses(16),
        intervalMs: 100,
        timeoutMs: 30_000,
      },
    });
    await pair.stack.start(id);
    await waitFor(async () => pins(gateway).length === 1, {
      ...{ what: `the pins of the other ABI at ${gateway} to go`, timeoutMs: 20_000, everyMs: 50 },
    });
    const opened = await opening;
    expect(opened).toMatchObject({ opened: MEANWHILE, failed: {} });
    const after = await packets(gateway);
    const tookMs = BigInt(Math.round(performance.now() - beganMs));
    const lost = [...flows].filter(([flow, { sum, ageMs }]) => {
      const now = after.get(flow);
      return now === undefined || now.sum < sum || now.ageMs < ageMs + tookMs / 2n;
    });
    expect(lost).toEqual([]);
    expect(await drops(gateway)).toEqual(dropped);
    return opened;
  }

  it('loses no packet and no connection, also none that begins meanwhile, and goes on counting', async () => {
    const stream = await pair.client.startUdp({
      ...{ remote, localAddresses: clientAddresses(16), flows: 64, pps: 640 },
    });
    await live.exchanged(5);
    const old = GATEWAYS.map((gateway) => pins(gateway));
    expect(old.map((names) => names.length)).toEqual([1, 1]);
    const begun: TcpConnections[] = [];
    abi.retire();
    for (const gateway of GATEWAYS) begun.push(await upgrade(gateway));
    await live.exchanged(20);
    const report = await stream.stop(1_000);
    expect(report).toMatchObject({ lost: 0, duplicated: 0, receiveBufferErrors: 0 });
    for (const [i, gateway] of GATEWAYS.entries()) {
      expect(pins(gateway)).not.toEqual(old[i]);
      const { stats } = await pair.at(gateway).counters();
      expect(Number(stats.forwarded)).toBeGreaterThan(CONNECTIONS * 10); // of both programs
    }
    for (const group of begun) {
      const { connections } = await group.report();
      expect(
        connections.filter(({ isOpen, corrupt, received }) => !isOpen || corrupt || received < 5),
      ).toEqual([]);
      await group.close();
    }
    await waitFor(async () => (await pair.firewallOfEach()).size === CONNECTIONS, {
      ...{ what: 'the later connections to have ended at the firewalls', timeoutMs: 20_000, everyMs: 100 },
    });
    await live.expectNoneBroken();
  }, 120_000);
});
