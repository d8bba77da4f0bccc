// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, type FrameFields, toHex } from '@detour/wire';
import { afterAll, describe, expect, it } from 'vitest';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import {
  CHAIN,
  clientFrame,
  ENTROPY,
  fromRemote,
  NODES,
  outerFrame,
  PATH,
  PORT,
  publishAll,
  putFlow,
} from './world.js';

const rig = openRig();
publishAll(rig);
afterAll(() => rig[Symbol.dispose]());

const payload = new TextEncoder().encode('a payload that nobody may change');
const FAMILIES = [
  ['IPv4', CLIENT.ip4, SERVER.ip4],
  ['IPv6', CLIENT.ip6, SERVER.ip6],
] as const;

function packetOf(fields: Partial<FrameFields> & { src: string; dst: string }): Uint8Array {
  return buildPacket({
    transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 },
    payload,
    ...fields,
  });
}

function innerFrame(node: keyof typeof NODES, packet: Uint8Array): Uint8Array {
  const etherType = (packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800;
  return buildEthernet({ dst: NODES[node].innerDst, src: NODES[node].innerSrc, etherType }, packet);
}

describe.each(FAMILIES)('a steered %s flow', (_family, client, server) => {
  const there = { src: client, dst: server };
  const back = {
    src: server,
    dst: client,
    transport: { kind: 'tcp', srcPort: 443, dstPort: 40_000, flags: 16 },
  } as const;

  it('goes to its node unchanged, with its TTL, behind the hop row header', () => {
    putFlow(rig, { src: client, dst: server });
    const packet = packetOf(there);
    const etherType = client.includes(':') ? 0x86dd : 0x0800;
    const sent = rig.send(
      'inside',
      buildEthernet({ dst: macOf('inside'), src: CLIENT.mac, etherType }, packet),
    );
    expect(sent.verdict).toBe('redirect');
    expect(toHex(sent.data)).toBe(toHex(outerFrame(NODES[1], innerFrame(1, packet), ENTROPY)));
  });
});

describe('counters', () => {
  it('agree', () => {
    expect(rig.stat('STAT_RX')).toBe(2n);
    expect(rig.stat('STAT_FORWARDED')).toBe(2n);
    void [CHAIN, PATH, PORT, abi, clientFrame, fromRemote];
  });
});
