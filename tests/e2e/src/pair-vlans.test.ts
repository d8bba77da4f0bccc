// SPDX-License-Identifier: Apache-2.0
// One bump in the wire serves two VRFs with the same addresses, one in a VLAN and one in QinQ of the same two links, by the same chain.
import type { IntentDocument } from '@detour/intent';
import { startCapture } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBalance } from './acceptance/balance.js';
import { pairOf } from './acceptance/pair-intent.js';
import { type PairLab, startPairLab } from './acceptance/pair-lab.js';
import { awaitCounts, countGateway, FLAGS, pairFrame } from './acceptance/pair-packets.js';
import { memberMacs } from './acceptance/pair-topology.js';

const VRFS = ['red', 'blue'] as const;
/** Bytes between the MAC addresses and the IP packet. */
const TAGS = { red: '81000064', blue: '88a8012c810000c8' } as const;

/** All VRFs through one node on the first one's devices. */
function onOneTrunk(intent: IntentDocument): IntentDocument {
  return {
    ...intent,
    gateways: (intent.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: gateway.ports?.filter(({ kind }) => kind !== 'service') ?? [],
    })),
    services: [{ name: 'svm' }],
    nodes: [
      {
        name: 'svm',
        service: 'svm',
        health: 'fast',
        attach: {
          kind: 'l2pair',
          gateway: 'edge1',
          a: { device: 'la0' },
          b: { device: 'lb0' },
          vrfs: { red: pairOf(100), blue: { ...pairOf(200), outerVlan: 300 } },
        },
      },
    ],
    chains: [{ name: 'inspect', hops: ['svm'] }],
    rules: (intent.rules ?? []).map((rule) => ({ ...rule, action: { chain: 'inspect' } })),
  };
}

describe('one node in two VRFs', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('pair-vlans', { vrfs: VRFS, trunk: true, change: onOneTrunk });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('each VRF crosses it under its own tags, both members by way of one link each', async () => {
    const macs = memberMacs(0);
    for (const vrf of VRFS) {
      const links = await Promise.all(
        (['a', 'b'] as const).map((device) =>
          startCapture(bench.lab, 'svm-red', device, { filter: `ether[0:2] = 0x0200 and len < 200` }),
        ),
      );
      const count = await countGateway(bench);
      const text = `in ${vrf}`;
      const flow = { direction: 'down', northPort: 46_000, flags: FLAGS.syn, payload: text } as const;
      await bench.sender(`north-${vrf}`).send([pairFrame(flow)]);
      await awaitCounts(count, ({ fromNode }) => fromNode[`svm@${vrf}`] === 1);
      for (const link of links) {
        const seen = (await link.stop())
          .map(({ bytes }) => Buffer.from(bytes))
          .filter((bytes) => bytes.includes(text));
        expect(seen.length).toBe(1);
        const hex = seen[0]?.toString('hex') ?? '';
        const from = macs.a.replaceAll(':', '');
        expect(hex.slice(0, 24)).toBe(macs.b.replaceAll(':', '') + from);
        expect(hex.slice(24)).toMatch(new RegExp(`^${TAGS[vrf]}0800`));
      }
      expect((await count()).drops).toEqual({});
    }
  });

  it('a pair that dies in one VRF alone is left there alone: the other loses nothing', async () => {
    const { client } = bench.crowd('blue');
    const flows = { first: 0, count: 40, proto: 'udp' } as const;
    await client.open(flows);
    const balance = await openBalance({ ...bench, crowd: bench.crowd('blue') });
    await client.stream(flows, 500);
    await bench.lab.exec('svm-red', ['nft', '-f', '-'], {
      input:
        'table bridge stop {\n  chain forward { type filter hook forward priority -10; policy accept; vlan id 100 drop; }\n}\n',
    });
    await bench.awaitRow('red', 'down');
    await client.stop();
    const books = await balance.settle();
    expect(books).toMatchObject({ delivered: books.sent, dropped: {}, endedInNode: {}, bypassed: 0 });
    expect((await bench.tables()).policies.map(({ vrf, bfd }) => [vrf, bfd])).toEqual([
      ['blue', 'up'],
      ['red', 'down'],
    ]);
    const count = await countGateway(bench);
    const flow = { direction: 'down', northPort: 46_001, flags: FLAGS.syn } as const;
    for (const vrf of VRFS) await bench.sender(`north-${vrf}`).send([pairFrame(flow)]);
    const ends = await awaitCounts(
      count,
      ({ drops, fromNode }) => drops.node_down === 1 && fromNode['svm@blue'] === 1,
    );
    expect(ends.toNode).toEqual({ 'svm@blue': 1 });
    await bench.lab.exec('svm-red', ['nft', 'delete', 'table', 'bridge', 'stop']);
    await bench.awaitRow('red', 'up');
  });
});
