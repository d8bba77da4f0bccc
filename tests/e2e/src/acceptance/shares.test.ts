// SPDX-License-Identifier: Apache-2.0
import { waitFor } from '@detour/lab';
import { rankInstances } from '@detour/rpc';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AcceptanceLab,
  controllersAt,
  grpcPorts,
  startAcceptanceLab,
  usageFormula,
} from './acceptance-lab.js';
import { type AgentLink, startAgent } from './agent-link.js';
import { ALTERATIONS, type Alteration, UNKNOWN_PATH } from './alter-rows.js';
import { openBalance } from './balance.js';
import { expectAllDelivered, expectShares } from './expectations.js';
import { countCrowdAtNodes, readNodeTallies, sharesSince } from './node-tally.js';
import type { RelayConfig, RelayedAck } from './path-relay-main.js';
import { awaitWeights, type Reports, startReports } from './reports.js';

const CAPACITY: Readonly<Record<string, number>> = { fw1: 50, fw2: 30, fw3: 20 };
const WEIGHTS = { fw1: 1000, fw2: 600, fw3: 400 };

/** A whole crowd takes a minute on a busy machine. */
const CROWD_MS = 300_000;

describe('shares of paths', () => {
  let bench: AcceptanceLab;
  let reports: Reports;

  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-shares', {
      intent: (standard) => ({
        ...standard,
        scoring: { default: { formula: usageFormula, hysteresis: '10%', slowStart: '0s' } },
        nodes: (standard.nodes ?? []).map((node) => ({
          ...node,
          capacity: CAPACITY[node.name] ?? 1,
          attributes: { report: { staleAfter: '1h' } },
        })),
      }),
    });
    await countCrowdAtNodes(bench);
    reports = await startReports(bench);
    await awaitWeights(bench, WEIGHTS);
  });
  afterAll(async () => {
    await reports?.[Symbol.asyncDispose]();
    await bench?.[Symbol.asyncDispose]();
  });

  it('PSEL-1 100,000 flows over paths with ranges [0,50) [50,80) [80,100) are spread 50/30/20 within 1 point at the first nodes', {
    timeout: CROWD_MS,
  }, async () => {
    const [selection] = (await bench.tables()).selections;
    const ranges = (selection?.shares ?? []).map((share) => (100 * share.slots) / (selection?.slots ?? 0));
    expect(ranges.map(Math.round)).toEqual([50, 30, 20]);
    const balance = await openBalance(bench);
    const before = await readNodeTallies(bench);

    const result = await bench.crowd.client.open({ first: 0, count: 100_000, proto: 'tcp' });

    expect(result).toMatchObject({ sent: 100_000, answered: 100_000 });
    const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
    expect(opened).toBe(100_000);
    expectShares(percent, { fw1: 50, fw2: 30, fw3: 20 }, 1);
    await expectAllDelivered(balance);
  });

  it('PSEL-4 a pushed table with an unknown path, a duplicate path or a total weight of zero is refused with row and reason, and selection stays by the old one', async () => {
    await using relay = await relayTables(bench);
    const running = (await bench.status()).paths;
    const why: Readonly<Record<Alteration, string>> = {
      'unknown-path': `path ${UNKNOWN_PATH} is unknown`,
      'duplicate-path': 'occurs twice',
      'total-weight-zero': 'the total weight is 0',
    };
    const balance = await openBalance(bench);
    for (const [i, how] of ALTERATIONS.entries()) {
      await relay.ask({ op: 'alter', how } as { op: string });
      await reports.set('fw1', { cpu: 0.2 * (i + 1) }); // a new score, so a new table is pushed
      const nack = await waitFor(
        async () => {
          const acks = await relay.ask<RelayedAck[]>({ op: 'acks' });
          return acks.find((ack) => ack.altered === how);
        },
        { what: `an answer to a table with ${how}` },
      );
      expect(nack).toMatchObject({ row: 'chain inspect', error: expect.stringContaining(why[how]) });

      expect((await bench.status()).paths).toEqual(running);
      await awaitWeights(bench, WEIGHTS);
      const before = await readNodeTallies(bench);
      const flows = { first: 100_000 + i * 10_000, count: 10_000, proto: 'tcp' } as const;
      expect(await bench.crowd.client.open(flows)).toMatchObject({ answered: 10_000 });
      const { opened, percent } = sharesSince(before, await readNodeTallies(bench));
      expect(opened).toBe(10_000);
      expectShares(percent, { fw1: 50, fw2: 30, fw3: 20 }, 2.5);
    }
    await relay.ask({ op: 'alter', how: null } as { op: string });
    await reports.set('fw1', { cpu: 0.9 }); // 5 of 55
    await awaitWeights(bench, { fw1: 167, fw2: 1000, fw3: 667 });
    const before = await readNodeTallies(bench);
    const flows = { first: 130_000, count: 10_000, proto: 'tcp' } as const;
    expect(await bench.crowd.client.open(flows)).toMatchObject({ answered: 10_000 });
    const { percent } = sharesSince(before, await readNodeTallies(bench));
    expectShares(percent, { fw1: 9.1, fw2: 54.5, fw3: 36.4 }, 2.5);
    await expectAllDelivered(balance);
  });
});

/** The gateway gets its tables by way of the relay, from the real path-selector, from here on. */
async function relayTables(bench: AcceptanceLab): Promise<AgentLink> {
  const real = `${controllersAt}:${grpcPorts['path-selector']}`;
  const candidates = Array.from({ length: 100 }, (_, i) => `${controllersAt}:${7_100 + i}`);
  const listen = candidates.find((address) => rankInstances('edge1', [address, real])[0] === address);
  const config: RelayConfig = { nats: bench.stack.natsUrl, upstream: real, listen: listen ?? real };
  const relay = startAgent(bench.lab, 'mgmt', 'path-relay-main', config);
  await relay.ask({ op: 'acks' }); // it serves
  await bench.stack.kill('path-selector');
  const connected = async () => (await relay.ask<number>({ op: 'watchers' })) > 0;
  await waitFor(connected, { what: 'the gateway to choose the relay' });
  await bench.stack.start('path-selector');
  return relay;
}
