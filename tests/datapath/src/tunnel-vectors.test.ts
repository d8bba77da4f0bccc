// SPDX-License-Identifier: Apache-2.0
// The golden frames of vectors/tunnels.json, which bind packages/wire, through the datapath: what becomes of each, whole, cut short and changed.
import { readFileSync } from 'node:fs';
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, fromHex, ipToKeyBytes, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig, u32 } from './rig.js';
import { ownKey, publishAll, tunnelValue } from './world.js';

const { frames } = JSON.parse(
  readFileSync(new URL('../../../vectors/tunnels.json', import.meta.url), 'utf8'),
) as { frames: Record<string, string> };
const { TunnelProto: proto } = abi;

/** Each vector's tunnel, and how it ends: the frames go from 192.0.2.1 to 192.0.2.11, so here the latter is us. */
const VECTORS: Readonly<Record<string, { proto: number; vni: number; l3: boolean; end: string }>> = {
  'geneve-ethernet': { proto: proto.TUNNEL_GENEVE, vni: 4001, l3: false, end: 'forwarded' },
  'geneve-ip-options': { proto: proto.TUNNEL_GENEVE, vni: 0, l3: true, end: 'forwarded' },
  'geneve-ethernet-over-ipv6-checksum': {
    proto: proto.TUNNEL_GENEVE,
    vni: 4001,
    l3: false,
    end: 'forwarded',
  },
  'geneve-critical': { proto: proto.TUNNEL_GENEVE, vni: 7, l3: false, end: 'DROP_TUNNEL_OPTION' },
  'gre-ip': { proto: proto.TUNNEL_GRE_PLAIN, vni: 0, l3: true, end: 'forwarded' },
  'gre-ip-key': { proto: proto.TUNNEL_GRE, vni: 4001, l3: true, end: 'forwarded' },
  'gre-ethernet-key-checksum': { proto: proto.TUNNEL_GRE, vni: 0xfedcba98, l3: false, end: 'forwarded' },
  'gre-ip-key-sequence-over-ipv6': { proto: proto.TUNNEL_GRE, vni: 7, l3: true, end: 'DROP_TUNNEL_HEADER' },
};
const ENDS = [
  ['192.0.2.1', '192.0.2.11'],
  ['2001:db8:ff::1', '2001:db8:ff::13'],
] as const;

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
  putFlow(rig, { src: CLIENT.ip4, dst: SERVER.ip4, proto: 17, sport: 5000, dport: 53 });
  for (const [src, dst] of ENDS) {
    rig.put('own', ownKey(dst, 0, 0), u32(1));
    for (const { proto, vni, l3 } of Object.values(VECTORS)) {
      const key = { src: ipToKeyBytes(src), dst: ipToKeyBytes(dst), vni, proto, bank: 0 };
      const row = { kind: abi.TunnelKind.TUNNEL_TO_NODE, node: 1, strictReturn: 1, innerL3: l3 ? 1 : 0 };
      rig.put('tunnels', abi.tunnelKey.encode(key), tunnelValue(rig, row));
    }
  }
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const leaves = toHex(
  buildEthernet(
    { dst: SERVER.mac, src: macOf('outside'), etherType: 0x0800 },
    buildPacket({
      src: CLIENT.ip4,
      dst: SERVER.ip4,
      ttl: 63,
      transport: { kind: 'udp', srcPort: 5000, dstPort: 53 },
      payload: new TextEncoder().encode('detour 0123456789'),
    }),
  ),
);

it('every vector has its end here', () => {
  expect(Object.keys(VECTORS).sort()).toEqual(Object.keys(frames).sort());
});

describe.each(Object.entries(VECTORS))('%s', (name, { end }) => {
  const whole = fromHex(frames[name] ?? '');

  it(`whole: ${end}`, () => {
    const fate = sendOne(rig, 'underlay', whole);
    expect(fate.end).toBe(end);
    if (end === 'forwarded') expect(toHex(fate.data)).toBe(leaves);
  });

  it('cut short, at any length, it is never forwarded', () => {
    const ends = new Set<string>();
    for (let length = 14; length < whole.length; length++)
      ends.add(sendOne(rig, 'underlay', whole.subarray(0, length)).end);
    expect(ends).not.toContain('forwarded');
    expect(ends).not.toContain('punted');
  });

  it('with any one byte changed, what is forwarded has the ends of the flow that it was sent for', () => {
    for (let at = 14; at < whole.length; at++) {
      for (const flip of [0x01, 0x40, 0x80, 0xff]) {
        const broken = whole.slice();
        broken[at] = (broken[at] ?? 0) ^ flip;
        const fate = sendOne(rig, 'underlay', broken);
        if (fate.end !== 'forwarded') continue;
        expect([at, toHex(fate.data.subarray(0, 14))]).toEqual([at, leaves.slice(0, 28)]);
        expect([at, toHex(fate.data.subarray(26, 38))]).toEqual([at, leaves.slice(52, 76)]);
      }
    }
  });
});
