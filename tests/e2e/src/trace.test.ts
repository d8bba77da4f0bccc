// SPDX-License-Identifier: Apache-2.0
// `detour trace` says what would happen to a packet; then that very packet is sent, and the datapath must do what was said.
import { standardAddresses, startRawSender, waitFor } from '@detour/lab';
import {
  buildEthernet,
  buildFrame,
  buildIpv4,
  buildUdp,
  buildVxlan,
  ETHERTYPE,
  VXLAN_PORT,
} from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rig, raiseRig } from './failures/rig.js';

const at = standardAddresses;
const client = { mac: '02:00:00:01:00:10', gateway: '02:00:00:01:00:01', address: '10.1.0.40' };
const firewall = { mac: '02:00:00:03:00:11', gateway: '02:00:00:03:00:01', address: '192.0.2.11', vni: 4001 };
const SYN = 0x02;

interface Packet {
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  readonly dport: number;
  readonly proto: 'tcp' | 'udp';
  readonly ttl?: number;
}

interface Traced {
  readonly verdict: string;
  readonly reason: string;
  readonly egress: string;
  readonly node: string;
}

function frameOf(
  { src, dst, sport, dport, proto, ttl = 64 }: Packet,
  macs = { dst: client.gateway, src: client.mac },
): Uint8Array {
  const ports = { srcPort: sport, dstPort: dport };
  return buildFrame({
    dstMac: macs.dst,
    srcMac: macs.src,
    src,
    dst,
    ttl,
    transport: proto === 'tcp' ? { kind: 'tcp', ...ports, flags: SYN } : { kind: 'udp', ...ports },
    payload: new Uint8Array(0),
  });
}

/** As fw1 would return it: inside VXLAN, towards the gateway. */
function returnedBy(inner: Uint8Array): Uint8Array {
  const ends = { src: firewall.address, dst: at.edgeUnderlay };
  const datagram = buildUdp(
    { srcPort: 50_000, dstPort: VXLAN_PORT },
    buildVxlan({ vni: firewall.vni }, inner),
    ends,
  );
  const packet = buildIpv4({ ...ends, protocol: 17, ttl: 64 }, datagram);
  return buildEthernet({ dst: firewall.gateway, src: firewall.mac, etherType: ETHERTYPE.ipv4 }, packet);
}

describe('detour trace and the datapath', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('trace-agrees');
    expect(await rig.get()).toMatchObject({ ok: true }); // the server's and the clients' neighbours are known from here on
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  const trace = (port: string, packet: Packet): Promise<Traced> =>
    rig.stack.cliJson<Traced>([
      ...['trace', '--port', port, '--src', packet.src, '--dst', packet.dst, '--proto', packet.proto],
      ...['--sport', `${packet.sport}`, '--dport', `${packet.dport}`, '--ttl', `${packet.ttl ?? 64}`],
    ]);
  const flowOf = async (sport: number) =>
    (await rig.flows()).find(({ tuple, action }) => tuple?.sport === sport && action !== 'pending');
  const sendFromClient = async (packet: Packet): Promise<void> => {
    await using sender = startRawSender(rig.lab, 'client', 'eth0');
    await sender.send([frameOf(packet)]);
  };

  it.each([
    ['TCP', { src: client.address, dst: at.server, sport: 41_001, dport: 80, proto: 'tcp' }],
    ['UDP', { src: client.address, dst: at.server, sport: 41_002, dport: 8007, proto: 'udp' }],
  ] as const)(
    '%s that a rule names goes to the node that was said, in both directions',
    async (_name, packet) => {
      const said = await trace('inside', packet);
      expect(said).toMatchObject({
        verdict: 'forward',
        egress: 'eth0',
        node: expect.stringMatching(/^fw[12]$/),
      });
      await sendFromClient(packet);
      const flow = await waitFor(() => flowOf(packet.sport), { what: 'the flow' });
      expect(flow).toMatchObject({ action: 'steer', nodes: [said.node] });
      const { src, dst, sport, dport } = packet;
      const reply = await trace('outside', { ...packet, src: dst, dst: src, sport: dport, dport: sport });
      expect(reply).toMatchObject({ verdict: 'forward', egress: 'eth0', node: said.node });
    },
  );

  it('what no rule names goes straight out of the device that was said', async () => {
    const packet = { src: client.address, dst: at.server, sport: 41_003, dport: 9000, proto: 'tcp' } as const;
    expect(await trace('inside', packet)).toMatchObject({ verdict: 'forward', egress: 'eth2', node: '' });
    await sendFromClient(packet);
    const flow = await waitFor(() => flowOf(packet.sport), { what: 'the flow' });
    expect(flow).toMatchObject({ action: 'allow', nodes: [] });
  });

  it.each([
    ['spoof', { src: at.edgeInside, dst: at.server, sport: 41_004, dport: 80, proto: 'tcp' }],
    ['no_route', { src: client.address, dst: '198.18.0.1', sport: 41_005, dport: 9000, proto: 'udp' }],
  ] as const)('a drop as %s is said and counted', async (reason, packet) => {
    expect(await trace('inside', packet)).toMatchObject({ verdict: 'drop', reason });
    const before = await rig.counters();
    await sendFromClient(packet);
    await rig.untilCounters(
      `one more ${reason}`,
      ({ drops }) => drops[reason] === (before.drops[reason] ?? 0n) + 1n,
    );
  });

  it.each([
    ['an own address', { src: client.address, dst: at.edgeInside, sport: 41_006, dport: 22, proto: 'tcp' }],
    ['multicast', { src: client.address, dst: '224.0.0.5', sport: 41_007, dport: 80, proto: 'udp' }],
    [
      'a TTL that ends here',
      { src: client.address, dst: at.server, sport: 41_008, dport: 80, proto: 'tcp', ttl: 1 },
    ],
  ] as const)('%s is passed to the kernel, as was said', async (_name, packet) => {
    expect(await trace('inside', packet)).toMatchObject({ verdict: 'pass' });
    const port = async () => (await rig.counters()).ports.find(({ name }) => name === 'inside')?.passed ?? 0n;
    const before = await port();
    await sendFromClient(packet);
    await waitFor(async () => (await port()) > before, { what: 'the packet to be passed' });
    expect(await flowOf(packet.sport)).toBeUndefined();
  });

  it('a packet of a flow that was never sent to the node is dropped as strict_return, as was said', async () => {
    const packet = { src: client.address, dst: at.server, sport: 41_009, dport: 80, proto: 'tcp' } as const;
    expect(await trace('fw1', packet)).toMatchObject({ verdict: 'drop', reason: 'strict_return' });
    const before = await rig.counters();
    await using sender = startRawSender(rig.lab, 'fw1', 'eth0');
    await sender.send([returnedBy(frameOf(packet, { dst: '02:44:c0:00:02:01', src: '02:fd:00:00:01:02' }))]);
    await rig.untilCounters(
      'one more strict_return',
      ({ drops }) => drops.strict_return === (before.drops.strict_return ?? 0n) + 1n,
    );
  });
});
