// SPDX-License-Identifier: Apache-2.0
// VTI-4 in the program alone: with nothing marked, what a node returns is found in its flow's record as if it came fresh, and goes no further.
import { buildEthernet, buildPacket } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, fromRemote, NODES, PATH } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const FAMILIES = [
  ['IPv4', { src: CLIENT.ip4, dst: SERVER.ip4 }],
  ['IPv6', { src: CLIENT.ip6, dst: SERVER.ip6 }],
] as const;
const FLOW = { proto: 17, sport: 5000, dport: 53, path: PATH.pair, chain: CHAIN.pair } as const;

describe.each([
  ['marked', true],
  ['not marked', false],
] as const)('what a node returns, %s', (_how, marks) => {
  const rig = openRig({ marks });
  beforeEach(() => {
    publishAll(rig);
    clearFlows(rig);
    rig.events();
  });
  afterEach(() => expect(disagreements(rig)).toEqual([]));
  afterAll(() => rig[Symbol.dispose]());

  describe.each(FAMILIES)('%s', (_family, ends) => {
    const packet = (from = 5000): Uint8Array =>
      buildPacket({ ...ends, transport: { kind: 'udp', srcPort: from, dstPort: 53 } });
    const reply = (): Uint8Array =>
      buildPacket({
        src: ends.dst,
        dst: ends.src,
        transport: { kind: 'udp', srcPort: 53, dstPort: 5000 },
      });
    const etherType = ends.src.includes(':') ? 0x86dd : 0x0800;
    const back = (node: 1 | 2, inner: Uint8Array): Uint8Array =>
      fromRemote(
        NODES[node],
        buildEthernet({ dst: NODES[node].innerSrc, src: NODES[node].innerDst, etherType }, inner),
      );

    it('goes on along its path, or is dropped as service_loop each time it comes', () => {
      putFlow(rig, { ...ends, ...FLOW });
      const fresh = buildEthernet({ dst: macOf('inside'), src: CLIENT.mac, etherType }, packet());
      expect(sendOne(rig, 'inside', fresh).end).toBe('forwarded');
      const there = marks ? 'forwarded' : 'DROP_SERVICE_LOOP';
      for (let times = 0; times < 3; times++) {
        expect(sendOne(rig, 'underlay', back(1, packet())).end).toBe(there);
        expect(sendOne(rig, 'underlay', back(2, packet())).end).toBe(there); // the last node of the path
        expect(sendOne(rig, 'underlay', back(2, reply())).end).toBe(there);
      }
      expect(sendOne(rig, 'inside', fresh).end).toBe('forwarded'); // the guard asks nothing of what is fresh
      expect(rig.events()).toEqual([]);
    });

    it('of a flow that is not known, no decision is asked for', () => {
      const end = sendOne(rig, 'underlay', back(1, packet(5001))).end;
      expect(end).toBe(marks ? 'DROP_STRICT_RETURN' : 'DROP_SERVICE_LOOP');
      expect(rig.events()).toEqual([]);
    });
  });
});
