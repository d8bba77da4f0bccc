// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { type NodeCount, NodeMeter } from './node-meter.js';

const count = (change: Partial<NodeCount> = {}): NodeCount => ({
  ...{
    name: 'fw1',
    number: 1,
    toPackets: 0n,
    toBytes: 0n,
    fromPackets: 0n,
    segments: 0n,
    segmentsAgain: 0n,
    flows: 0,
  },
  ...change,
});

describe('NodeMeter', () => {
  it('makes rates of what grew between two looks, and says nothing of them after one', () => {
    const meter = new NodeMeter();
    expect(meter.look([count({ toBytes: 5n })], 1_000)).toEqual(new Map([['fw1', { flows: 0 }]]));
    const grown = count({ toPackets: 1_000n, toBytes: 500_005n, fromPackets: 900n, flows: 12 });
    expect(meter.look([grown], 3_000).get('fw1')).toEqual({
      flows: 12,
      bytesPerSecond: 250_000,
      dropsPerSecond: 50,
      retransmissions: 0,
    });
    // What was under way comes back later: nothing is lost then, and nothing less.
    const back = { ...grown, toPackets: 1_010n, fromPackets: 930n };
    expect(meter.look([back], 4_000).get('fw1')).toMatchObject({ dropsPerSecond: 0 });
  });

  it('adds up the VRFs of a node, and keeps nodes apart', () => {
    const meter = new NodeMeter();
    const of = (bytes: bigint) => [
      count({ toBytes: bytes, flows: 1 }),
      count({ number: 2, toBytes: 2n * bytes, flows: 2 }),
      count({ name: 'fw2', number: 3, toBytes: 7n * bytes, flows: 3 }),
    ];
    meter.look(of(0n), 0);
    const seen = meter.look(of(1_000n), 1_000);
    expect(seen.get('fw1')).toMatchObject({ flows: 3, bytesPerSecond: 3_000 });
    expect(seen.get('fw2')).toMatchObject({ flows: 3, bytesPerSecond: 7_000 });
  });

  it('says which share of what sampled flows sent had been sent before, over the VRFs of a node', () => {
    const meter = new NodeMeter();
    const of = (segments: bigint, again: bigint) => [
      count({ segments, segmentsAgain: again }),
      count({ number: 2, segments: 3n * segments, segmentsAgain: 0n }),
    ];
    meter.look(of(100n, 50n), 0);
    expect(meter.look(of(200n, 90n), 1_000).get('fw1')).toMatchObject({ retransmissions: 0.1 });
    expect(meter.look(of(200n, 90n), 2_000).get('fw1')).toMatchObject({ retransmissions: 0 });
    expect(meter.look(of(10n, 0n), 3_000).get('fw1')).toEqual({ flows: 0 }); // made anew
  });

  it('begins again where a counter was made anew or its row belongs to another node now', () => {
    const meter = new NodeMeter();
    meter.look([count({ toBytes: 5_000n })], 0);
    expect(meter.look([count({ toBytes: 10n })], 1_000).get('fw1')).toEqual({ flows: 0 });
    expect(meter.look([count({ name: 'fw9', toBytes: 500n })], 2_000).get('fw9')).toEqual({ flows: 0 });
    expect(meter.look([count({ name: 'fw9', toBytes: 700n })], 3_000).get('fw9')).toMatchObject({
      bytesPerSecond: 200,
    });
  });

  it('tells what probes measured since the last look, once: the share of all that were lost, the shortest time', () => {
    const meter = new NodeMeter();
    const probe = { node: 'fw1', vrf: '', sent: 90, lost: 0, rttUs: 700 };
    meter.takeProbes([probe]);
    meter.takeProbes([{ ...probe, sent: 10, lost: 5, rttUs: 400 }]);
    expect(meter.look([count()], 0).get('fw1')).toMatchObject({ loss: 0.05, rttMs: 0.4 });
    expect(meter.look([count()], 1_000).get('fw1')).not.toHaveProperty('loss');
    meter.takeProbes([{ node: 'fw1', vrf: '', sent: 3, lost: 3 }]);
    const lost = meter.look([count()], 2_000).get('fw1');
    expect(lost).toMatchObject({ loss: 1 });
    expect(lost).not.toHaveProperty('rttMs');
  });

  it('takes the mean of the times of several VRFs, and tells nothing of nodes that are not attached any more', () => {
    const meter = new NodeMeter();
    meter.takeProbes([
      { node: 'fw1', vrf: 'red', sent: 10, lost: 1, rttUs: 1_000 },
      { node: 'fw1', vrf: 'blue', sent: 10, lost: 0, rttUs: 3_000 },
      { node: 'gone', vrf: '', sent: 10, lost: 0, rttUs: 1 },
    ]);
    const seen = meter.look([count({ flows: null })], 0);
    expect([...seen]).toEqual([['fw1', { loss: 0.05, rttMs: 2 }]]);
  });
});
