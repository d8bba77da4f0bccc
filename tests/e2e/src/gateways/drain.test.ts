// SPDX-License-Identifier: Apache-2.0
/** `detour drain-gateway`: routers leave a gateway under live traffic, and nothing is lost, broken or sent to another firewall. */
import { clientAddresses, processOf, standardAddresses, standardPorts, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveConnections, openLiveConnections } from './live-connections.js';
import { awaitSpread, type GatewayPair, raiseGatewayPair } from './pair-of-gateways.js';

const CONNECTIONS = 200;
/** Of UDP, numbered; so few that a busy machine sends them evenly. */
const STREAM = { flows: 64, pps: 640 } as const;
/** What the command prints with `-o json`. */
interface Said {
  readonly changed: boolean;
  readonly done: boolean;
  readonly step: string;
  readonly arrived?: number;
  readonly unrecorded?: number;
}

describe('drain of a gateway', () => {
  let pair: GatewayPair;
  let live: LiveConnections;

  beforeAll(async () => {
    pair = await raiseGatewayPair('gateway-drain');
    live = await openLiveConnections(pair, CONNECTIONS);
    await pair.reweigh({ fw1: 10, fw2: 100, fw3: 300 }); // from here on the pins count, and no longer the hash
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  const detour = (...args: string[]): Promise<Said> =>
    pair.stack.cliJson<Said>([...args, '--timeout', '60s'], { timeoutMs: 90_000 });

  /** Packets that both gateways dropped, by reason. */
  async function drops(): Promise<Record<string, bigint>> {
    const both = await Promise.all(['edge1', 'edge2'].map((gateway) => pair.at(gateway).counters()));
    const [one, two] = both.map((counters) => counters.drops);
    return Object.fromEntries(Object.entries(one ?? {}).map(([why, n]) => [why, n + (two?.[why] ?? 0n)]));
  }

  /** While `work` is done a numbered stream and all connections go on: nothing of them is lost, and none is sent elsewhere. */
  async function losingNothing(work: () => Promise<void>): Promise<void> {
    const stream = await pair.client.startUdp({
      ...STREAM,
      remote: { address: standardAddresses.server, port: standardPorts.echo },
      localAddresses: clientAddresses(16),
    });
    await live.exchanged(5);
    const before = await drops();
    await work();
    await live.exchanged(20);
    const report = await stream.stop(1_000);
    expect(report).toMatchObject({ lost: 0, duplicated: 0, receiveBufferErrors: 0 });
    expect(report.sent).toBeGreaterThan(STREAM.pps);
    expect(await drops()).toEqual(before);
    await live.expectNoneBroken();
  }

  it('tells routers nothing while Redis does not have the pins', async () => {
    await pair.stack.kill('redis');
    const late = await pair.stack.cli(['drain-gateway', 'edge2', '--timeout', '3s'], { timeoutMs: 30_000 });
    expect(late).toMatchObject({ code: 7, stderr: expect.stringContaining('edge2 records the pins') });
    expect((await pair.at('edge2').status()).drain).toMatchObject({ recording: true });
    await awaitSpread(pair.routers, 2);
    expect(await detour('undrain-gateway', 'edge2')).toMatchObject({ changed: true, done: true });
    await pair.stack.start('redis');
    await live.exchanged(5);
    await live.expectNoneBroken();
  });

  it('routers leave it, the command returns when nothing arrives there any more, and no packet is lost', async () => {
    await losingNothing(async () => {
      const said = await detour('drain-gateway', 'edge2');
      expect(said).toMatchObject({ changed: true, done: true, step: 'quiet', unrecorded: 0 });
      await awaitSpread(pair.routers, 1);
    });
    const { decided, drain } = await pair.at('edge1').status();
    expect(Number(decided.redis ?? 0n) + Number(decided.controller ?? 0n)).toBeGreaterThan(CONNECTIONS / 5);
    expect(drain).toBeUndefined();
  });

  it('stays drained when all that runs there is started again', async () => {
    for (const service of ['tunnel-gw', 'bfd'] as const) await pair.stack.kill(processOf(service, 'edge2'));
    for (const service of ['bfd', 'tunnel-gw'] as const) await pair.stack.start(processOf(service, 'edge2'));
    await waitFor(async () => (await pair.at('edge2').status()).announced.startsWith('drained by'), {
      ...{ what: 'edge2 to be withheld', timeoutMs: 20_000, everyMs: 50 },
    });
    await awaitSpread(pair.routers, 1);
    expect(await pair.at('edge2').status()).toMatchObject({ drain: { recording: false } });
    await live.expectNoneBroken();
  });

  it('routers use it again when that is undone, and no packet is lost', async () => {
    await losingNothing(async () => {
      expect(await detour('undrain-gateway', 'edge2')).toMatchObject({ changed: true, step: 'serving' });
      await awaitSpread(pair.routers, 2);
    });
  });
});
