// SPDX-License-Identifier: Apache-2.0
// One sentence for each cause, the first on the packet's way before the others; and up only when there is none.
import { abi } from '@detour/contracts';
import { describe, expect, it } from 'vitest';
import type { BfdView } from './bfd-responder.js';
import { readConfig } from './config.js';
import type { Counts, GatewayCounts } from './datapath.js';
import {
  advanceMarks,
  decideStates,
  describeDiag,
  type Marks,
  type Observed,
  pairForwards,
} from './state.js';

const config = readConfig(
  `
node: fw1
underlay: { device: eth0, address: 192.0.2.11 }
attach: { kind: tunnel, protocol: geneve, vni: 5001 }
gateways: [{ address: 192.0.2.1, local: 169.254.1.2, peer: 169.254.1.1 }]
`,
  'test',
);
const NOW = 100_000_000_000n;
const none = abi.nodeGatewayCounters.decode(new Uint8Array(abi.nodeGatewayCounters.size));
const counts = (gateway: Partial<GatewayCounts>, rest: Partial<Counts> = {}): Counts => ({
  gateways: [{ ...none, lastNs: NOW - 1_000_000n, ...gateway }],
  drops: {},
  stranger: { address: '::', packets: 0 },
  ...rest,
});
const UP: BfdView = {
  state: 'up',
  diag: 0,
  remoteState: 'up',
  remoteDiag: 0,
  sent: 9,
  received: 9,
  trouble: null,
};
/** After these counts, one after the other. */
function after(all: readonly Counts[], rest: Partial<Observed> = {}): string {
  let marks: Marks = [];
  for (const one of all) marks = advanceMarks(marks, one);
  const [state] = decideStates({
    config,
    machine: null,
    counts: all.at(-1) ?? counts({}),
    marks,
    bfd: [UP],
    tcpAgoMs: [null],
    nowNs: NOW,
    ...rest,
  });
  return state?.state === 'up' ? 'up' : (state?.why ?? 'no state');
}
const start = counts({ inPackets: 5n });

describe('the state of a node', () => {
  it('is up when packets come, cross and BFD is up', () => {
    expect(after([start, counts({ inPackets: 9n, echoIn: 4n, echoBack: 4n })])).toBe('up');
  });

  it('names the machine first', () => {
    expect(after([start], { machine: 'device eth0 does not exist' })).toBe('device eth0 does not exist');
  });

  it('without a packet of the gateway: names it, and who sent instead', () => {
    expect(after([counts({ lastNs: 0n })])).toBe('no packet from gateway 192.0.2.1 yet');
    const stranger = { address: '192.0.2.9', packets: 7 };
    expect(after([counts({ lastNs: 0n }, { stranger })])).toContain('7 tunnel packets came from 192.0.2.9');
    expect(after([counts({ lastNs: NOW - 30_000_000_000n })])).toBe(
      'no packet from gateway 192.0.2.1 for 30 s',
    );
    expect(after([counts({ lastNs: 0n })], { tcpAgoMs: [100] })).toBe('up'); // an appliance with TCP checks alone
  });

  it('another VNI, until packets with the right one come', () => {
    const wrong = counts({ inPackets: 5n, wrongTagPackets: 3n, wrongTag: 5002n });
    expect(after([start, wrong])).toBe('gateway 192.0.2.1 sends VNI 5002, this node has 5001');
    expect(after([start, wrong, counts({ inPackets: 6n, wrongTagPackets: 3n, wrongTag: 5002n })])).toBe('up');
  });

  it('all is dropped: why, in words', () => {
    const dropped = counts({ inPackets: 5n, dropped: 4n }, { drops: { tunnel_option: 4, malformed: 0 } });
    expect(after([start, dropped])).toBe(
      'what gateway 192.0.2.1 sends is dropped: tunnel_option (a Geneve option that must be known and is not)',
    );
  });

  it('echoes without an answer: the pair is not forwarding, and says so until one is back', () => {
    const sent = counts({ inPackets: 9n, echoIn: 3n });
    expect(after([start, sent])).toContain('the last 3 echo packets of gateway 192.0.2.1 came out of fw1-in');
    expect(after([start, counts({ inPackets: 9n, echoIn: 2n })])).toBe('up');
    expect(after([start, sent, counts({ inPackets: 10n, echoIn: 4n, echoBack: 1n })])).toBe('up');
    expect(pairForwards({ counts: sent, marks: advanceMarks(advanceMarks([], start), sent) })).toBe(false);
  });

  it('BFD: what stands in its way, or how both ends stand', () => {
    const silent = { ...UP, state: 'down', remoteState: null, received: 0 } as const;
    expect(after([start], { bfd: [{ ...silent, trouble: 'UDP port 3784 is taken' }] })).toContain('is taken');
    expect(after([counts({ linkIn: 5n })], { bfd: [silent] })).toContain('must let UDP port 3784 in');
    const down = { ...UP, state: 'down', diag: 1, remoteState: 'down', remoteDiag: 3 } as const;
    expect(after([start], { bfd: [down] })).toBe(
      'BFD with gateway 192.0.2.1 is down: control detection time expired; the gateway’s end is down (neighbor signaled session down)',
    );
    expect(after([start], { bfd: [null] })).toBe('up');
  });
});

it('diagnostics that have no name keep their number', () => {
  expect(describeDiag(31)).toBe('diagnostic 31');
});
