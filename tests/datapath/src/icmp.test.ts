// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildIcmp, buildIpv4, buildIpv6, buildPacket, parseFrame } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromRemote, NODES, PORT } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;
const udp = { kind: 'udp', srcPort: 5000, dstPort: 53 } as const;

describe('ICMP errors', () => {
  const quoted = buildPacket({
    src: CLIENT.ip4,
    dst: SERVER.ip4,
    transport: udp,
    payload: new Uint8Array(8),
  });
  const quoted6 = buildPacket({
    src: CLIENT.ip6,
    dst: SERVER.ip6,
    transport: udp,
    payload: new Uint8Array(8),
  });
  const router = { ip4: '198.51.100.9', ip6: '2001:db8:99::9' };
  const about = (packet: Uint8Array, type: number): Uint8Array => {
    const v6 = (packet[0] ?? 0) >> 4 === 6;
    const dst = v6 ? CLIENT.ip6 : CLIENT.ip4;
    const src = v6 ? router.ip6 : router.ip4;
    const message = buildIcmp({ type, code: 0, rest: 0 }, packet, v6 ? { src, dst } : undefined);
    const ip = v6
      ? buildIpv6({ src, dst, nextHeader: 58 }, message)
      : buildIpv4({ src, dst, protocol: 1 }, message);
    return buildEthernet({ dst: macOf('outside'), src: SERVER.mac, etherType: v6 ? 0x86dd : 0x0800 }, ip);
  };

  it.each([
    ['unreachable', quoted, 3],
    ['time exceeded', quoted, 11],
    ['parameter problem', quoted, 12],
    ['IPv6 unreachable', quoted6, 1],
    ['IPv6 too big', quoted6, 2],
    ['IPv6 time exceeded', quoted6, 3],
  ])('%s goes the way of the flow that it quotes, against it', (_name, packet, type) => {
    const v6 = (packet[0] ?? 0) >> 4 === 6;
    const ends = v6 ? { src: CLIENT.ip6, dst: SERVER.ip6 } : {};
    putFlow(rig, { ...ends, proto: 17, sport: 5000, dport: 53, slot: 40, path: 3, chain: 2 });
    const before = rig.count('flow_counters', 40, 1);
    const sent = sendOne(rig, 'outside', about(packet, type));
    expect(sent.end).toBe('forwarded');
    const outer = parseFrame(sent.data);
    expect(outer.ok && outer.value.ipv4?.dst).toBe(NODES[2].remote);
    expect(rig.count('flow_counters', 40, 1) - before).toBe(1n);
    const returned = fromRemote(NODES[2], sent.data.subarray(50));
    const second = parseFrame(sendOne(rig, 'underlay', returned).data);
    expect(second.ok && second.value.ipv4?.dst).toBe(NODES[1].remote);
  });

  it('about an echo finds it by its identifier', () => {
    const echo = buildPacket({
      src: CLIENT.ip4,
      dst: SERVER.ip4,
      transport: { kind: 'echo', identifier: 77 },
    });
    putFlow(rig, { proto: 1, sport: 77, dport: 77 });
    expect(end('outside', about(echo, 3))).toBe('forwarded');
  });

  it('about an unknown flow is a flow of its own, without ports', () => {
    const frame = about(
      buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: { ...udp, srcPort: 7777 } }),
      3,
    );
    rig.events();
    expect(end('outside', frame)).toBe('punted');
    expect(rig.events()[0]?.event.key).toMatchObject({ proto: 1, aport: 0, bport: 0 });
    putFlow(rig, {
      src: router.ip4,
      dst: CLIENT.ip4,
      proto: 1,
      sport: 0,
      dport: 0,
      fwdPort: PORT.outside,
      action: abi.FlowAction.FLOW_ALLOW,
    });
    expect(end('outside', frame)).toBe('forwarded');
  });

  it('about a flow that waits for its decision waits for its own', () => {
    const waiting = buildPacket({ src: CLIENT.ip4, dst: SERVER.ip4, transport: { ...udp, srcPort: 7778 } });
    rig.events();
    expect(end('inside', clientFrame({ transport: { ...udp, srcPort: 7778 } }))).toBe('punted');
    expect(end('outside', about(waiting, 3))).toBe('punted');
    expect(rig.events().map((held) => [held.event.key.proto, held.event.first])).toEqual([
      [17, 1],
      [1, 1],
    ]);
  });
});
