// SPDX-License-Identifier: Apache-2.0
// TUN: tunnel-based service insertion. P1 comes from `far` over the VTI `overlay` (GRE with a key), the CGW is the gateway, SP1 and SP2 are real firewalls
// behind VXLAN tunnels, and 8.8.8.8 is on the uplink.
import type { IntentDocument } from '@detour/intent';
import { startCapture, waitFor } from '@detour/lab';
import {
  buildEthernet,
  buildIpv4,
  buildPacket,
  buildUdp,
  buildVxlan,
  type FrameFields,
  parseFrame,
  parseVxlan,
  toHex,
} from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EDGE, fromFar, fromUplink, type Seen, startVtiBench, type VtiBench } from './vti-bench.js';

const VM = '10.10.10.11';
const EXTERNAL = '8.8.8.8';
const SP1 = '192.0.2.11';

/** All scoped to the logical interface `overlay`: UDP 5000-5009 and tcp/80 to SP1, tcp/443 to SP2. */
function intentOf(standard: IntentDocument): IntentDocument {
  const rule = (
    name: string,
    priority: number,
    protocol: 'tcp' | 'udp',
    port: number | string,
    chain: string,
  ) => ({
    name,
    priority,
    match: { vrf: 'red', source: ['10.10.10.0/24'], protocol, destinationPorts: [port] },
    appliedTo: ['edge1/overlay'],
    action: { chain },
  });
  return {
    ...standard,
    services: [1, 2, 3].map((n) => ({ name: `sp${n}` })),
    nodes: (standard.nodes ?? []).map((node, i) => ({ ...node, service: `sp${i + 1}` })),
    chains: [
      ...[1, 2, 3].map((n) => ({ name: `to${n}`, hops: [`sp${n}`] })),
      { name: 'hub', hops: ['sp1', 'sp2'] },
    ],
    rules: [
      rule('udp', 100, 'udp', '5000-5009', 'to1'),
      rule('web', 99, 'tcp', 80, 'to1'),
      rule('tls', 98, 'tcp', 443, 'to2'),
      rule('hub', 97, 'tcp', 8443, 'hub'),
    ],
  };
}

const datagram = (port: number, from: number, number = 0, more: Partial<FrameFields> = {}): Uint8Array =>
  buildPacket({
    src: VM,
    dst: EXTERNAL,
    transport: { kind: 'udp', srcPort: from, dstPort: port },
    payload: new Uint8Array(Uint32Array.of(number).buffer),
    ...more,
  });
const syn = (port: number, from: number): Uint8Array =>
  buildPacket({ src: VM, dst: EXTERNAL, transport: { kind: 'tcp', srcPort: from, dstPort: port, flags: 2 } });
const hexes = (seen: readonly Seen[]): string[] => seen.map(({ packet }) => toHex(packet)).sort();
const apartFromTtl = (packet: Uint8Array): string => {
  const copy = Uint8Array.from(packet);
  copy[8] = 0;
  copy.fill(0, 10, 12);
  return toHex(copy);
};

describe('tunnel-based service insertion', () => {
  let bench: VtiBench;
  beforeAll(async () => {
    bench = await startVtiBench('acc-tun', {
      vti: 'overlay',
      protocol: 'gre',
      intent: intentOf,
      routes: ['8.8.8.0/24 via 203.0.113.9 dev eth2', '10.10.10.0/24 dev vti-overlay'],
    });
    const rules = `table inet tally {
      counter in5001 { }
      chain prerouting { type filter hook prerouting priority -350; ip daddr ${EXTERNAL} udp dport 5001 counter name in5001; }
    }`;
    for (const ns of ['fw1', 'server']) await bench.acc.lab.exec(ns, ['nft', '-f', '-'], { input: rules });
  }, 120_000);
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const nodeCounts = async (name: string) => {
    const { nodes } = await bench.acc.status();
    const node = nodes.find((row) => row.name === name);
    return { to: Number(node?.toPackets ?? 0), from: Number(node?.fromPackets ?? 0) };
  };
  const tally = async (ns: string): Promise<number> => {
    const { stdout } = await bench.acc.lab.exec(ns, [
      'nft',
      '-j',
      'list',
      'counter',
      'inet',
      'tally',
      'in5001',
    ]);
    return Number(/"packets": (\d+)/.exec(stdout)?.[1] ?? Number.NaN);
  };

  it('TUN-1 a packet of the VM inside P1 becomes one P2 to the address of SP1, its inner packet as it was', async () => {
    await using underlay = await startCapture(bench.acc.lab, 'underlay', 'fw1', {
      direction: 'out',
      filter: 'udp port 4789',
    });
    await using watch = await bench.watch('udp port 5000');
    const books = await bench.books();
    const inner = datagram(5000, 40_001, 1, { ipv4: { tos: 0xb8 } });
    await bench.send('far', [fromFar('gre', inner)]);
    await watch.reach('server', 1);
    const seen = await watch.stop();
    const frames = (await underlay.stop()).flatMap(({ bytes }) => {
      const outer = parseFrame(bytes);
      if (!outer.ok) throw new Error(outer.why);
      const vxlan = parseVxlan(outer.value.payload);
      if (!vxlan.ok) throw new Error(vxlan.why);
      return toHex(vxlan.value.payload.subarray(14)) === toHex(inner)
        ? [{ ...outer.value.ipv4, ...vxlan.value.header }]
        : [];
    });
    expect(frames).toMatchObject([{ src: EDGE, dst: SP1, vni: 4001, ttl: 64 }]);
    expect(hexes(seen['fw1.in'])).toEqual([toHex(inner)]);
    expect([...seen['fw2.in'], ...seen['fw3.in']]).toEqual([]);
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 1 }, bypassed: 0 });
  });

  it('TUN-2 what SP1 sends back leaves towards its destination once, and SP1 has received as many as were sent', async () => {
    await using watch = await bench.watch('udp port 5000');
    const books = await bench.books();
    const before = await nodeCounts('fw1');
    const packets = Array.from({ length: 1_000 }, (_, i) => datagram(5000, 41_000 + (i % 50), i));
    // The first packet of each flow, then the others: what waits for a decision would be looked up as well.
    for (const [at, to] of [
      [0, 50],
      [50, 250],
      [250, 500],
      [500, 750],
      [750, 1_000],
    ] as const) {
      const frames = packets.slice(at, to).map((packet) => fromFar('gre', packet));
      await bench.send('far', frames);
      await watch.reach('server', to);
    }
    const seen = await watch.stop();
    const sent = packets.map(apartFromTtl).sort();
    for (const spot of ['fw1.in', 'fw1.out', 'server'] as const)
      expect([spot, seen[spot].map(({ packet }) => apartFromTtl(packet)).sort()]).toEqual([spot, sent]);
    expect(hexes([...seen.far, ...seen.client])).toEqual([]);
    const after = await nodeCounts('fw1');
    expect({ to: after.to - before.to, from: after.from - before.from }).toEqual({ to: 1_000, from: 1_000 });
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 50 }, bypassed: 0 });
  });

  it('TUN-5 two P1 with identical outer headers, tcp/80 and tcp/443 inside: each reaches its own path alone', async () => {
    await using watch = await bench.watch('tcp port 80 or tcp port 443');
    const books = await bench.books();
    const [web, tls] = [syn(80, 42_001), syn(443, 42_002)];
    const frames = [fromFar('gre', web), fromFar('gre', tls)];
    const outer = frames.map((frame) => toHex(frame.subarray(0, 14 + 20 + 8)));
    expect(outer[0]).toBe(outer[1]);
    await bench.send('far', frames);
    await watch.reach('server', 2);
    const seen = await watch.stop();
    expect([hexes(seen['fw1.in']), hexes(seen['fw2.in']), hexes(seen['fw3.in'])]).toEqual([
      [toHex(web)],
      [toHex(tls)],
      [],
    ]);
    expect(seen.server.map(({ packet }) => apartFromTtl(packet)).sort()).toEqual(
      [web, tls].map(apartFromTtl).sort(),
    );
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 2 }, bypassed: 0 });
  });

  it('TUN-6 what comes back on the tunnel interface is not matched: of 100,000 packets SP1 sees 100,000', async () => {
    const books = await bench.books();
    const before = await nodeCounts('fw1');
    const start = [await tally('fw1'), await tally('server')] as const;
    const total = 100_000;
    const flows = 200;
    const send = async (from: number, to: number) => {
      const frames = Array.from({ length: to - from }, (_, i) =>
        fromFar('gre', datagram(5001, 43_000 + ((from + i) % flows), from + i)),
      );
      await bench.send('far', frames);
      // At most one window is on its way, so that no queue overflows.
      await waitFor(async () => (await tally('server')) - start[1] >= to, {
        what: `${to} packets at the uplink`,
        timeoutMs: 20_000,
        everyMs: 10,
      });
    };
    await send(0, flows);
    for (let at = flows; at < total; at += 200) await send(at, Math.min(total, at + 200));
    const after = await nodeCounts('fw1');
    expect({ to: after.to - before.to, from: after.from - before.from }).toEqual({ to: total, from: total });
    // SP1's own counter: it sees each packet once on its way in (and its outer packet is another one, to port 4789).
    expect((await tally('fw1')) - start[0]).toBe(total);
    expect((await tally('server')) - start[1]).toBe(total);
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: flows }, bypassed: 0 });
  }, 240_000);

  it('TUN-11 what SP1 returns of a flow that was never sent to it, and what comes from an unknown end, VNI or key, is dropped and counted', async () => {
    await using watch = await bench.watch('udp port 5002');
    const books = await bench.books();
    const known = datagram(5002, 44_001, 1);
    await bench.send('far', [fromFar('gre', known)]);
    await watch.reach('server', 1);
    const vxlan = (packet: Uint8Array, { src = SP1, vni = 4001 } = {}): Uint8Array => {
      const inner = buildEthernet(
        { dst: '02:00:00:00:00:01', src: '02:fd:00:00:01:02', etherType: 0x0800 },
        packet,
      );
      const outer = buildIpv4(
        { src, dst: EDGE, protocol: 17 },
        buildUdp({ srcPort: 50_000, dstPort: 4789 }, buildVxlan({ vni }, inner)),
      );
      return buildEthernet({ dst: '02:00:00:03:00:01', src: '02:00:00:03:00:11', etherType: 0x0800 }, outer);
    };
    const never = Array.from({ length: 20 }, (_, i) => vxlan(datagram(5002, 45_000 + i)));
    // SP2 was never sent the flow that SP1 knows.
    const others = [vxlan(known, { src: '192.0.2.12', vni: 4002 })];
    const unknown = [
      vxlan(known, { src: '192.0.2.99' }),
      vxlan(known, { vni: 4999 }),
      fromFar('gre', known, { vni: 71 }),
      fromFar('gre', known, { src: '192.0.2.99' }),
      fromFar('geneve', known),
    ];
    await bench.send('fw1', [...never, ...others, ...unknown]);
    const counted = await waitFor(
      async () => {
        const now = await books();
        return Object.values(now.drops).reduce((sum, n) => sum + n, 0) >= 26 && now;
      },
      { what: '26 drops' },
    );
    expect(counted).toEqual({
      drops: { strict_return: 21, tunnel_unknown: 5 },
      lookups: { overlay: 1 },
      bypassed: 0,
    });
    const seen = await watch.stop();
    expect(seen.server.map(({ packet }) => apartFromTtl(packet))).toEqual([apartFromTtl(known)]);
    expect(hexes([...seen['fw2.in'], ...seen['fw3.in'], ...seen.far, ...seen.client])).toEqual([]);
    expect(seen['fw1.in']).toHaveLength(1);
  });

  /** What SP1, SP2 and the ends saw, in the order of time. */
  const orderOf = (seen: Awaited<ReturnType<Awaited<ReturnType<VtiBench['watch']>>['stop']>>): string[] =>
    Object.entries(seen)
      .flatMap(([spot, rows]) => rows.map(({ atUs }) => ({ spot, atUs })))
      .sort((one, other) => one.atUs - other.atUs)
      .map(({ spot }) => spot);

  it('TUN-7 a chain of SP1 then SP2 goes through the hub between them; with SP2 dead, nothing that passed SP1 alone gets out', async () => {
    await using watch = await bench.watch('tcp port 8443');
    const books = await bench.books();
    const packet = syn(8443, 46_001);
    await bench.send('far', [fromFar('gre', packet)]);
    await watch.reach('server', 1);
    const seen = await watch.stop();
    expect(orderOf(seen)).toEqual(['fw1.in', 'fw1.out', 'fw2.in', 'fw2.out', 'server']);
    expect(apartFromTtl(seen.server[0]?.packet ?? new Uint8Array())).toBe(apartFromTtl(packet));
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 1 }, bypassed: 0 });

    const second = bench.acc.firewall('fw2');
    await second.silence();
    try {
      await using dead = await bench.watch('tcp port 8443');
      // Before its death is known and after it: old flows and new ones.
      const sent = [packet, ...Array.from({ length: 20 }, (_, i) => syn(8443, 46_100 + i))];
      await bench.send(
        'far',
        sent.map((one) => fromFar('gre', one)),
      );
      await waitFor(
        async () => {
          const { policies } = await bench.acc.tables();
          return policies.some(({ path, bfd }) => path === 'fw2' && bfd !== 'up');
        },
        { what: 'fw2 to be down', timeoutMs: 30_000 },
      );
      const after = await bench.books();
      const late = [packet, ...Array.from({ length: 20 }, (_, i) => syn(8443, 46_200 + i))];
      await bench.send(
        'far',
        late.map((one) => fromFar('gre', one)),
      );
      await waitFor(async () => ((await after()).drops.node_down ?? 0) >= late.length, { what: '21 drops' });
      expect((await after()).drops.node_down).toBe(late.length);
      const { server, client } = await dead.stop();
      expect(hexes([...server, ...client])).toEqual([]);
    } finally {
      await second.restore();
    }
    await bench.acc.awaitNodes(['fw2'], true);
  });

  it('TUN-8 the reply passes SP2 then SP1, the same instances, before the VM', async () => {
    await using watch = await bench.watch('tcp port 8443');
    const books = await bench.books();
    await bench.send('far', [fromFar('gre', syn(8443, 47_001))]);
    await watch.reach('server', 1);
    const reply = buildPacket({
      src: EXTERNAL,
      dst: VM,
      transport: { kind: 'tcp', srcPort: 8443, dstPort: 47_001, flags: 18, ack: 1 },
    });
    await bench.send('server', [fromUplink(reply)]);
    await watch.reach('far', 1);
    const seen = await watch.stop();
    const way = ['fw1.in', 'fw1.out', 'fw2.in', 'fw2.out', 'server'];
    expect(orderOf(seen)).toEqual([...way, 'fw2.in', 'fw2.out', 'fw1.in', 'fw1.out', 'far']);
    expect(apartFromTtl(seen.far[0]?.packet ?? new Uint8Array())).toBe(apartFromTtl(reply));
    for (const name of ['fw1', 'fw2']) {
      const tracked = await bench.acc.firewall(name).conntrack({ protocol: 'tcp', sourcePort: 47_001 });
      expect([name, tracked.map(({ replied }) => replied)]).toEqual([name, [true]]);
    }
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 1 }, bypassed: 0 });
  });
});
