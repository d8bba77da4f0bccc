// SPDX-License-Identifier: Apache-2.0
/** TUN-9: a preferred service path and its standby, behind tunnels of their own. SP1 is fw1, SP2 is fw2; fw3 is of no chain. */
import type { IntentDocument } from '@detour/intent';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptanceLab, startAcceptanceLab } from './acceptance-lab.js';
import { HOPS_THROUGH_ONE_NODE, openBalance } from './balance.js';
import { countCrowdAtNodes, readNodeTallies } from './node-tally.js';

/** Of the lab's sessions: 100 ms, three times (RFC 5880 6.8.4); then one transmit interval and 100 ms. */
const DETECTED_MS = 300 + 100 + 100;
const COUNT = 300;
const background = ['hop_not_ready', 'arp_fail'];

function intentOf(standard: IntentDocument): IntentDocument {
  const priorities: Readonly<Record<string, number>> = { fw1: 200, fw2: 100, fw3: 100 };
  return {
    ...standard,
    services: [{ name: 'firewall' }, { name: 'other' }],
    nodes: (standard.nodes ?? []).map((node) => ({
      ...node,
      service: node.name === 'fw3' ? 'other' : 'firewall',
      priority: priorities[node.name] ?? 100,
      attributes: {},
    })),
    chains: [
      { name: 'inspect', hops: ['firewall'], select: 'priority' },
      { name: 'unused', hops: ['other'] },
    ],
  };
}

describe('a preferred path and its standby', () => {
  let bench: AcceptanceLab;
  beforeAll(async () => {
    bench = await startAcceptanceLab('acc-standby', { intent: intentOf });
    await countCrowdAtNodes(bench);
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });

  it('TUN-9 SP2 carries nothing while SP1 is up; SP1’s tunnel dies: old and new flows use SP2 within the detection time; with no standby, onFailure', async () => {
    const { client } = bench.crowd;
    const flows = (first: number) => ({ first, count: COUNT, proto: 'udp' }) as const;
    const [old, fresh, late] = [flows(0), flows(1_000), flows(2_000)];
    const calm = await openBalance(bench);
    expect(await client.open(old)).toMatchObject({ answered: COUNT });
    expect(await client.ask(old)).toMatchObject({ answered: COUNT });
    expect(await calm.settle()).toMatchObject({ dropped: {}, hops: { [HOPS_THROUGH_ONE_NODE]: 4 * COUNT } });
    const before = await readNodeTallies(bench);
    expect([before.fw1?.toServer, before.fw2?.toServer, before.fw2?.toClient]).toEqual([2 * COUNT, 0, 0]);

    const failing = await openBalance(bench, { background });
    await client.stream(old, 1_000);
    await bench.firewall('fw1').silence();
    await bench.awaitNodes(['fw1'], false);
    const moved = bench.crowd.client.open(fresh);
    expect(await moved).toMatchObject({ answered: COUNT });
    await client.stop();
    expect((await client.report()).maxGapMs).toBeLessThan(DETECTED_MS);
    expect(await client.ask({ ...old, window: COUNT })).toMatchObject({ answered: COUNT });
    const books = await failing.settle();
    expect(books).toMatchObject({ dropped: {}, bypassed: 0, corrupt: 0, duplicated: 0 });
    expect(Object.keys(books.endedInNode)).toEqual(['fw1']); // on their way while nobody could know
    const after = await readNodeTallies(bench);
    expect((after.fw2?.toServer ?? 0) - (before.fw2?.toServer ?? 0)).toBeGreaterThan(2 * COUNT);
    expect(after.fw3?.toServer).toBe(0);

    await bench.firewall('fw2').silence();
    await bench.awaitNodes(['fw2'], false);
    const none = await openBalance(bench, { background });
    const ask = (range: typeof old) => client.ask({ ...range, window: COUNT, giveUpMs: 700 });
    expect([(await ask(old)).answered, (await ask(late)).answered]).toEqual([0, 0]);
    expect(await none.settle()).toMatchObject({
      delivered: 0,
      dropped: { node_down: 2 * COUNT },
      bypassed: 0,
    });
    for (const name of ['fw1', 'fw2']) await bench.firewall(name).restore();
    await bench.awaitNodes(['fw1', 'fw2'], true);
  });
});
