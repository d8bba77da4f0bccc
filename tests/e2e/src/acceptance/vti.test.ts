// SPDX-License-Identifier: Apache-2.0
// VTI: services at the edge through selected VTIs. VTI-1 of the statements is `wan` here (Geneve, IP inside, classifying), IN is `inside`, SVC1 to
// SVC3 are real firewalls behind tunnels of their own, which are VTI-2 and on.
import { FlowInstruction } from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import { waitFor } from '@detour/lab';
import { buildPacket, type FrameFields, fromHex, ipToKeyBytes, parseIpv4, toHex } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromClient, fromFar, fromUplink, type Seen, startVtiBench, type VtiBench } from './vti-bench.js';

const CLIENT = '10.1.0.10';
const REMOTE = '203.0.113.9';

/** By destination port: 443 to SVC1, 8443 to SVC2; 444 and 445 to SVC1 with bypass and backup (SVC3); 446 from `inside` alone; 7000 from outside. */
function intentOf(standard: IntentDocument): IntentDocument {
  const remote = { vrf: 'red', destination: ['203.0.113.0/24'] };
  const rule = (name: string, priority: number, match: object, chain: string, more: object = {}) => ({
    name,
    priority,
    match: { ...remote, ...match },
    action: { chain },
    ...more,
  });
  const both = (port: number) => ({ protocol: 'tcp' as const, destinationPorts: [port] });
  return {
    ...standard,
    services: [1, 2, 3].map((n) => ({ name: `svc${n}` })),
    nodes: (standard.nodes ?? []).map((node, i) => ({ ...node, service: `svc${i + 1}` })),
    chains: [
      { name: 'to1', hops: ['svc1'] },
      { name: 'to2', hops: ['svc2'] },
      { name: 'spare', hops: ['svc3'] },
      { name: 'bypass1', hops: ['svc1'], onFailure: 'bypass' },
      { name: 'backup1', hops: ['svc1'], onFailure: { backup: 'spare' } },
    ],
    rules: [
      rule('r443', 100, both(443), 'to1'),
      rule('u443', 99, { protocol: 'udp', destinationPorts: [443] }, 'to1'),
      rule('r8443', 98, both(8443), 'to2'),
      rule('r444', 97, both(444), 'bypass1'),
      rule('r445', 96, both(445), 'backup1'),
      rule('r446', 95, { protocol: 'udp', destinationPorts: [446] }, 'to1', { appliedTo: ['edge1/inside'] }),
      rule(
        'r7000',
        94,
        {
          destination: ['10.1.0.0/16'],
          source: ['203.0.113.0/24'],
          protocol: 'udp',
          destinationPorts: [7000],
        },
        'to1',
      ),
    ],
  } as IntentDocument;
}

interface Flow {
  readonly port: number;
  readonly from?: number;
  readonly more?: Partial<FrameFields>;
}
const syn = ({ port, from = 40_000, more = {} }: Flow): Uint8Array =>
  buildPacket({
    src: CLIENT,
    dst: REMOTE,
    transport: { kind: 'tcp', srcPort: from, dstPort: port, flags: 2, seq: from },
    ...more,
  });
const datagram = ({ port, from = 40_000, more = {} }: Flow, number = 0): Uint8Array =>
  buildPacket({
    src: CLIENT,
    dst: REMOTE,
    transport: { kind: 'udp', srcPort: from, dstPort: port },
    payload: new Uint8Array(Uint32Array.of(number, 0x6465746f).buffer),
    ...more,
  });
const headerOf = (packet: Uint8Array) => {
  const parsed = parseIpv4(packet);
  if (!parsed.ok) throw new Error(`${parsed.why}, got ${parsed.got}`);
  return parsed.value;
};
/** The packet with what routers change left out: TTL and header checksum. */
const apartFromTtl = (packet: Uint8Array): string => {
  const copy = Uint8Array.from(packet);
  copy[8] = 0;
  copy.fill(0, 10, 12);
  return toHex(copy);
};
const hexes = (seen: readonly Seen[]): string[] => seen.map(({ packet }) => apartFromTtl(packet)).sort();
const sourcePorts = (seen: readonly Seen[]): number[] =>
  seen.map(({ packet }) => (packet[20] ?? 0) * 256 + (packet[21] ?? 0));

describe('services at the edge through selected VTIs', () => {
  let bench: VtiBench;
  beforeAll(async () => {
    bench = await startVtiBench('acc-vti', {
      vti: 'wan',
      protocol: 'geneve',
      intent: intentOf,
      routes: ['203.0.113.0/24 dev vti-wan'],
    });
  }, 120_000);
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('VTI-1 a packet that the rule names reaches SVC1 once, and leaves VTI-1 once, after SVC1 has returned it', async () => {
    await using watch = await bench.watch('tcp port 443');
    const books = await bench.books();
    const packet = syn({ port: 443, from: 40_001 });
    await bench.send('client', [fromClient(packet)]);
    await watch.reach('far', 1);
    const seen = await watch.stop();
    for (const spot of ['fw1.in', 'fw1.out', 'far'] as const)
      expect([spot, hexes(seen[spot])]).toEqual([spot, [apartFromTtl(packet)]]);
    for (const spot of ['fw2.in', 'fw3.in', 'client', 'server'] as const)
      expect([spot, hexes(seen[spot])]).toEqual([spot, []]);
    const times = [seen['fw1.in'], seen['fw1.out'], seen.far].map(([first]) => first?.atUs ?? Number.NaN);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 1 }, bypassed: 0 });
  });

  it('VTI-2 a packet that no rule names leaves VTI-1 directly, and SVC1 sees none', async () => {
    await using watch = await bench.watch('tcp port 80');
    const books = await bench.books();
    const packet = syn({ port: 80, from: 40_002 });
    await bench.send('client', [fromClient(packet)]);
    await watch.reach('far', 1);
    const { far, client, server, ...firewalls } = await watch.stop();
    expect(hexes(far)).toEqual([apartFromTtl(packet)]);
    expect(headerOf(far[0]?.packet ?? new Uint8Array()).header.ttl).toBe(63);
    expect(hexes([...Object.values(firewalls), client, server].flat())).toEqual([]);
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 1 }, bypassed: 0 });
  });

  it('VTI-3 what SVC1 returns matches the rule and is not looked up: 10,000 packets, SVC1 sees 10,000, each leaves VTI-1 once', async () => {
    await using watch = await bench.watch('udp port 443');
    const books = await bench.books();
    const sent: Uint8Array[] = [];
    // The first packet of each of 100 flows, then the others: what waits for a decision is bounded, and none may be lost here.
    const send = async (from: number, to: number) => {
      const packets = Array.from({ length: to - from }, (_, i) =>
        datagram({ port: 443, from: 41_000 + ((from + i) % 100) }, from + i),
      );
      sent.push(...packets);
      await bench.send('client', packets.map(fromClient));
      await watch.reach('far', to);
    };
    await send(0, 100);
    for (let at = 100; at < 10_000; at += 225) await send(at, at + 225);
    const seen = await watch.stop();
    const all = sent.map(apartFromTtl).sort();
    for (const spot of ['fw1.in', 'fw1.out', 'far'] as const) {
      expect([spot, seen[spot].length]).toEqual([spot, 10_000]);
      expect(hexes(seen[spot])).toEqual(all);
    }
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in'], ...seen.client, ...seen.server])).toEqual([]);
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 100 }, bypassed: 0 });
    const { ports } = await bench.acc.counters();
    expect(ports.map(({ name }) => name)).not.toContain('fw1'); // VTI-2 is no port of the rules at all
  }, 120_000);

  it('VTI-5 no mark is on the wire: what leaves VTI-1 is what SVC1 emitted, DSCP and IP options as the client sent them', async () => {
    await using watch = await bench.watch('udp port 443');
    const books = await bench.books();
    const options = fromHex('01015e0604d2beef01010100'); // no-operation, an experimental option, end
    const packets = Array.from({ length: 64 }, (_, dscp) =>
      datagram(
        {
          port: 443,
          from: 42_000 + dscp,
          more: {
            ipv4: { tos: dscp * 4 + (dscp % 3), options: dscp % 2 === 1 ? options : new Uint8Array(0) },
          },
        },
        dscp,
      ),
    );
    await bench.send('client', packets.map(fromClient));
    await watch.reach('far', 64);
    const seen = await watch.stop();
    const emitted = new Map(
      seen['fw1.out'].map(({ packet }) => [apartFromTtl(packet), headerOf(packet).header.ttl]),
    );
    expect(emitted.size).toBe(64);
    for (const { packet } of seen.far)
      expect(emitted.get(apartFromTtl(packet))).toBe(headerOf(packet).header.ttl + 1);
    expect(hexes(seen.far)).toEqual(packets.map(apartFromTtl).sort());
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 64 }, bypassed: 0 });
  });

  it('VTI-6 the SYN-ACK that comes in by VTI-1 goes to the same SVC1, then to IN, once', async () => {
    await using watch = await bench.watch('tcp port 443');
    const books = await bench.books();
    const ports = Array.from({ length: 20 }, (_, i) => 43_000 + i);
    await bench.send(
      'client',
      ports.map((from) => fromClient(syn({ port: 443, from }))),
    );
    await watch.reach('far', 20);
    const replies = ports.map((port) =>
      buildPacket({
        src: REMOTE,
        dst: CLIENT,
        transport: { kind: 'tcp', srcPort: 443, dstPort: port, flags: 18, seq: 9, ack: port + 1 },
      }),
    );
    await bench.send(
      'far',
      replies.map((packet) => fromFar('geneve', packet)),
    );
    await watch.reach('client', 20);
    const seen = await watch.stop();
    const fromRemote = (rows: readonly Seen[]) =>
      rows.filter(({ packet }) => headerOf(packet).header.src === REMOTE);
    for (const spot of ['fw1.in', 'fw1.out', 'client'] as const)
      expect([spot, hexes(fromRemote(seen[spot]))]).toEqual([spot, replies.map(apartFromTtl).sort()]);
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in'], ...seen.server])).toEqual([]);
    expect(seen.far).toHaveLength(20);
    // The same instance: its connection tracking has seen both directions of each.
    const tracked = await bench.acc
      .firewall('fw1')
      .conntrack({ protocol: 'tcp', destinationPort: 443, replied: true });
    expect(
      tracked
        .map((row) => row.sourcePort)
        .filter((port) => ports.includes(port))
        .sort(),
    ).toEqual(ports);
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 20 }, bypassed: 0 });
  });

  it('VTI-7 two rules to two services: each sees its own flow alone', async () => {
    await using watch = await bench.watch('tcp port 443 or tcp port 8443');
    const books = await bench.books();
    const one = syn({ port: 443, from: 44_001 });
    const two = syn({ port: 8443, from: 44_002 });
    await bench.send('client', [one, two].map(fromClient));
    await watch.reach('far', 2);
    const seen = await watch.stop();
    expect([hexes(seen['fw1.in']), hexes(seen['fw2.in']), seen['fw3.in']]).toEqual([
      [apartFromTtl(one)],
      [apartFromTtl(two)],
      [],
    ]);
    expect(hexes(seen.far)).toEqual([one, two].map(apartFromTtl).sort());
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 2 }, bypassed: 0 });
  });

  it('VTI-10 SVC1 says “no more service” of one flow: its next packet passes SVC1 by, another flow of the rule does not', async () => {
    await using watch = await bench.watch('udp port 443');
    const [one, other] = [
      { port: 443, from: 46_001 },
      { port: 443, from: 46_002 },
    ];
    const { stats } = await bench.acc.counters();
    const books = await bench.books();
    await bench.send('client', [fromClient(datagram(one, 1)), fromClient(datagram(other, 2))]);
    await watch.reach('far', 2);
    const tuple = {
      ...{ vrf: 0, src: ipToKeyBytes(CLIENT), dst: ipToKeyBytes(REMOTE) },
      ...{ sport: one.from, dport: one.port, proto: 17 },
    };
    const instruction = FlowInstruction.SKIP_ALL;
    await expect(bench.acc.program({ node: 'fw2', tuple, instruction })).rejects.toThrow(/does not pass fw2/);
    expect(await bench.acc.program({ node: 'fw1', tuple, instruction })).toBe(1);
    await bench.send('client', [fromClient(datagram(one, 3)), fromClient(datagram(other, 4))]);
    await watch.reach('far', 4);
    const seen = await watch.stop();
    const numbers = (rows: readonly Seen[]) => rows.map(({ packet }) => packet[28]).sort();
    expect(numbers(seen['fw1.in'])).toEqual([1, 2, 4]);
    expect(numbers(seen['fw1.out'])).toEqual([1, 2, 4]);
    expect(numbers(seen.far)).toEqual([1, 2, 3, 4]);
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in']])).toEqual([]);
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 2 }, bypassed: 0 });
    const after = (await bench.acc.counters()).stats;
    expect(Number((after.fp_skipped ?? 0n) - (stats.fp_skipped ?? 0n))).toBe(1);
  });

  it('VTI-11 the same 5-tuple by a port that the rule is not applied to is not redirected, although a record exists', async () => {
    await using watch = await bench.watch('udp port 446');
    const books = await bench.books();
    const flow = { port: 446, from: 45_001 };
    await bench.send('client', [fromClient(datagram(flow, 1)), fromClient(datagram(flow, 2))]);
    await watch.reach('far', 2);
    await bench.send('server', [fromUplink(datagram(flow, 3)), fromUplink(datagram(flow, 4))]);
    await watch.reach('far', 4);
    await bench.send('client', [fromClient(datagram(flow, 5))]);
    await watch.reach('far', 5);
    const seen = await watch.stop();
    const numbers = (rows: readonly Seen[]) => rows.map(({ packet }) => packet[28]).sort();
    expect(numbers(seen['fw1.in'])).toEqual([1, 2, 5]);
    expect(numbers(seen.far)).toEqual([1, 2, 3, 4, 5]);
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in']])).toEqual([]);
    const { drops, bypassed, lookups } = await books();
    expect({ drops, bypassed }).toEqual({ drops: {}, bypassed: 0 });
    expect(Object.keys(lookups).sort()).toEqual(['inside', 'outside']);
  });

  it('VTI-12 nothing that a packet from outside carries makes it serviced: it is still sent to SVC1', async () => {
    await using watch = await bench.watch('udp port 7000');
    const books = await bench.books();
    const option = (optionClass: number, type: number, words: number) => ({
      optionClass,
      type,
      data: new Uint8Array(words * 4).fill(1),
    });
    // Of a load balancer's appliance, ours without the critical bit, ours empty, somebody else's.
    const carried = [
      [],
      [option(0x0108, 1, 2), option(0x0108, 2, 2), option(0x0108, 3, 1)],
      [option(0xff44, 1, 12)],
      [option(0xff44, 0, 0)],
      [option(0x0102, 0x12, 3)],
    ];
    const packets = Array.from({ length: 256 }, (_, tos) =>
      buildPacket({
        src: REMOTE,
        dst: CLIENT,
        transport: { kind: 'udp', srcPort: 46_000 + tos, dstPort: 7000 },
        payload: new Uint8Array([tos, 1, 2, 3]),
        ipv4: {
          tos,
          options:
            [new Uint8Array(0), fromHex('01015e0604d2beef01010100'), fromHex('94040000')][tos % 3] ??
            new Uint8Array(0),
        },
      }),
    );
    await bench.send(
      'far',
      packets.map((packet, i) =>
        fromFar('geneve', packet, { options: carried[i % carried.length] ?? [], tos: (i * 4) & 0xfc }),
      ),
    );
    await watch.reach('client', 256);
    // Our own option, critical as it is: not on this tunnel, so the packet is dropped. A tenant's own tunnel packets are just packets.
    const forged = datagram({ port: 7000, from: 46_999, more: { src: REMOTE, dst: CLIENT } }, 7);
    await bench.send('far', [fromFar('geneve', forged, { options: [option(0xff44, 0x81, 12)] })]);
    const claims = fromFar('geneve', forged).subarray(14);
    await bench.send('client', [fromClient(claims)]);
    const counted = await waitFor(
      async () => {
        const { drops, lookups } = await books();
        return Object.values(drops).reduce((sum, n) => sum + n, 0) >= 2 && { drops, lookups };
      },
      { what: 'two drops' },
    );
    expect(counted.drops).toEqual({ tunnel_option: 1, no_route: 1 });
    expect(counted.lookups).toEqual({ wan: 256, inside: 1 });
    const seen = await watch.stop();
    for (const spot of ['fw1.in', 'fw1.out', 'client'] as const)
      expect([spot, hexes(seen[spot])]).toEqual([spot, packets.map(apartFromTtl).sort()]);
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in'], ...seen.server, ...seen.far])).toEqual([]);
  });

  it('VTI-8 SVC1 is killed: new flows are dropped and counted, leave unserviced and counted, or go to the backup, as the policy says', async () => {
    const svc1 = bench.acc.firewall('fw1');
    await svc1.silence();
    try {
      await bench.acc.awaitNodes(['fw1'], false);
      await using watch = await bench.watch('tcp port 443 or tcp port 444 or tcp port 445');
      const books = await bench.books();
      const flows = (port: number) =>
        Array.from({ length: 10 }, (_, i) => syn({ port, from: 47_000 + port * 10 + i }));
      await bench.send('client', [...flows(443), ...flows(444), ...flows(445)].map(fromClient));
      await watch.reach('far', 20);
      const counted = await waitFor(
        async () => {
          const now = await books();
          return (now.drops.node_down ?? 0) >= 10 && now;
        },
        { what: 'ten drops' },
      );
      const seen = await watch.stop();
      const { hop_not_ready: _background, ...drops } = counted.drops; // BFD to a node that answers no ARP
      expect({ ...counted, drops }).toEqual({
        drops: { node_down: 10 },
        lookups: { inside: 30 },
        bypassed: 10,
      });
      expect(hexes(seen.far)).toEqual([...flows(444), ...flows(445)].map(apartFromTtl).sort());
      expect(hexes(seen['fw3.out'])).toEqual(flows(445).map(apartFromTtl).sort());
      expect(sourcePorts(seen['fw1.in'])).toEqual([]);
      expect(hexes([...seen['fw2.in'], ...seen.client, ...seen.server])).toEqual([]);
    } finally {
      await svc1.restore();
    }
    await bench.acc.awaitNodes(['fw1'], true);
  });

  it('VTI-9 flows that were dropped or bypassed while SVC1 was down go through it again with their next packet, as new ones do', async () => {
    const svc1 = bench.acc.firewall('fw1');
    const old = [443, 444].flatMap((port) =>
      Array.from({ length: 10 }, (_, i) => syn({ port, from: 49_000 + port * 10 + i })),
    );
    await svc1.silence();
    try {
      await bench.acc.awaitNodes(['fw1'], false);
      await using meanwhile = await bench.watch('tcp port 443 or tcp port 444');
      const books = await bench.books();
      await bench.send('client', old.map(fromClient));
      await meanwhile.reach('far', 10);
      await waitFor(async () => ((await books()).drops.node_down ?? 0) >= 10, { what: 'ten drops' });
      expect((await meanwhile.stop()).far).toHaveLength(10);
    } finally {
      await svc1.restore();
    }
    await bench.acc.awaitNodes(['fw1'], true);
    await using watch = await bench.watch('tcp port 443 or tcp port 444');
    const books = await bench.books();
    const repinned = async () => Number((await bench.acc.counters()).stats.repinned ?? 0n);
    const before = await repinned();
    const fresh = Array.from({ length: 10 }, (_, i) => syn({ port: 443, from: 48_000 + i }));
    await bench.send('client', [...fresh, ...old].map(fromClient));
    await watch.reach('far', 30);
    const seen = await watch.stop();
    const all = [...fresh, ...old].map(apartFromTtl).sort();
    for (const spot of ['fw1.in', 'fw1.out', 'far'] as const)
      expect([spot, hexes(seen[spot])]).toEqual([spot, all]);
    // New flows are looked up in the rules; old ones look up their policy alone: the generation of health in their record is stale.
    expect(await books()).toEqual({ drops: {}, lookups: { inside: 10 }, bypassed: 0 });
    expect((await repinned()) - before).toBe(20);
  });
});
