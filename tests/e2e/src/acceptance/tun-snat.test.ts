// SPDX-License-Identifier: Apache-2.0
// TUN-4: the last leg. P1 comes from `far` over the VTI `overlay`; another VPC is behind the VTI `vpc2`, whose other end is a second address of the
// same machine; everything else is outside, behind an uplink with SNAT. SP1 is a real firewall behind VXLAN.
import type { IntentDocument } from '@detour/intent';
import { startCapture, waitFor } from '@detour/lab';
import { buildPacket, parseFrame, parseGre, parseIpv4, toHex } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EDGE, fromFar, fromUplink, type Seen, startVtiBench, type VtiBench } from './vti-bench.js';

const VM = '10.10.10.11';
const OTHER_VM = '10.20.20.5';
const EXTERNAL = '8.8.8.8';
const SNAT = '198.51.100.1';
const VPC2 = { remote: '192.0.2.71', key: 71 } as const;

function intentOf(standard: IntentDocument): IntentDocument {
  const vpc2 = {
    ...{ name: 'vpc2', kind: 'vti' as const, vrf: 'red', classify: true, addresses: ['169.254.71.1/30'] },
    tunnel: { protocol: 'gre' as const, ...VPC2 },
  };
  return {
    ...standard,
    gateways: (standard.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: [
        ...(gateway.ports ?? []).map((port) => (port.kind === 'uplink' ? { ...port, snat: SNAT } : port)),
        vpc2,
      ],
    })),
    services: [1, 2, 3].map((n) => ({ name: `sp${n}` })),
    nodes: (standard.nodes ?? []).map((node, i) => ({ ...node, service: `sp${i + 1}` })),
    chains: [1, 2, 3].map((n) => ({ name: `to${n}`, hops: [`sp${n}`] })),
    rules: [
      {
        name: 'serviced',
        priority: 100,
        match: { vrf: 'red', source: ['10.10.10.0/24'], protocol: 'udp', destinationPorts: ['5000-5009'] },
        appliedTo: ['edge1/overlay'],
        action: { chain: 'to1' },
      },
    ],
  };
}

const datagram = (dst: string, from: number, number = 0, src = VM, ttl = 64): Uint8Array =>
  buildPacket({
    ...{ src, dst, ttl, transport: { kind: 'udp', srcPort: from, dstPort: 5000 } },
    payload: new Uint8Array(Uint32Array.of(number).buffer),
  });
const hexes = (packets: readonly Uint8Array[]): string[] => packets.map((packet) => toHex(packet)).sort();
const seenOf = (rows: readonly Seen[]): string[] => hexes(rows.map(({ packet }) => packet));

/** From the wire's first header on: a frame with an overlay header in it is no plain packet of port 5000. */
function plain({ packet }: Seen) {
  const ip = parseIpv4(packet);
  if (!ip.ok) throw new Error(ip.why);
  const view = new DataView(ip.value.payload.buffer, ip.value.payload.byteOffset);
  const { src, dst, protocol } = ip.value.header;
  return {
    src,
    dst,
    protocol,
    sport: view.getUint16(0),
    dport: view.getUint16(2),
    number: view.getUint32(8, true),
  };
}

describe('the last leg of a serviced packet', () => {
  let bench: VtiBench;
  beforeAll(async () => {
    bench = await startVtiBench('acc-tun-snat', {
      ...{ vti: 'overlay', protocol: 'gre', intent: intentOf },
      routes: [
        '8.8.8.0/24 via 203.0.113.9 dev eth2',
        '10.10.10.0/24 dev vti-overlay',
        '10.20.20.0/24 dev vti-vpc2',
      ],
    });
    const { lab } = bench.acc;
    await lab.exec('far', ['ip', 'address', 'add', `${VPC2.remote}/24`, 'dev', 'eth0']);
    // The gateway asked for it before it was there, and asks again when a packet needs it.
    const neighbour = async () => (await lab.exec('edge1', ['ip', 'neigh', 'show', VPC2.remote])).stdout;
    await waitFor(
      async () => {
        await bench.send('far', [fromFar('gre', datagram(OTHER_VM, 39_999, 0))]);
        return (await neighbour()).includes('lladdr');
      },
      { what: 'the way to the other VPC', timeoutMs: 20_000, everyMs: 500 },
    );
  }, 120_000);
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('TUN-4 to another VPC it is P4 to the gateway of that VPC, as the VM sent it', async () => {
    const { lab } = bench.acc;
    await using p4 = await startCapture(lab, 'underlay', 'far', {
      ...{ direction: 'out', filter: `dst host ${VPC2.remote} and ip proto 47` },
    });
    await using watch = await bench.watch('udp port 5000');
    const books = await bench.books();
    const packets = Array.from({ length: 20 }, (_, i) => datagram(OTHER_VM, 40_000 + i, i));
    await bench.send(
      'far',
      packets.map((packet) => fromFar('gre', packet)),
    );
    await waitFor(() => p4.packets().length >= packets.length, { what: '20 P4', timeoutMs: 20_000 });
    const seen = await watch.stop();
    const outer = (await p4.stop()).flatMap(({ bytes }) => {
      const frame = parseFrame(bytes);
      const gre = frame.ok ? parseGre(frame.value.payload) : frame;
      if (!frame.ok || !gre.ok) throw new Error('what reaches the other VPC is broken');
      const inner = Uint8Array.from(gre.value.payload);
      const ours = parseIpv4(inner);
      return ours.ok && ours.value.header.dst === OTHER_VM
        ? [{ src: frame.value.ipv4?.src, dst: frame.value.ipv4?.dst, key: gre.value.header.key, inner }]
        : [];
    });
    for (const { src, dst, key } of outer)
      expect({ src, dst, key }).toEqual({ src: EDGE, dst: VPC2.remote, key: VPC2.key });
    expect(seenOf(seen['fw1.in'])).toEqual(hexes(packets));
    expect(hexes(outer.map(({ inner }) => inner)).map((hex) => hex.slice(24))).toEqual(
      packets.map((packet) => toHex(packet).slice(24)).sort(),
    );
    expect([seen.server, seen.client, seen.far]).toEqual([[], [], []]);
    expect(await books()).toEqual({ drops: {}, lookups: { overlay: 20 }, bypassed: 0 });
  });

  it('TUN-4 to the outside it has no overlay header and the SNAT address, while SP1 saw the address of the VM, both ways', async () => {
    const { lab } = bench.acc;
    await using link = await startCapture(lab, 'server', 'eth0', {
      direction: 'in',
      filter: 'ip and not icmp',
    });
    await using watch = await bench.watch('udp port 5000');
    const books = await bench.books();
    const flows = 40;
    const packets = Array.from({ length: 400 }, (_, i) => datagram(EXTERNAL, 41_000 + (i % flows), i));
    // Two VMs with one port towards one remote end.
    const rival = datagram(EXTERNAL, 41_000, 9_999, '10.10.10.12');
    for (const [from, to] of [
      [0, flows],
      [flows, 200],
      [200, 400],
    ] as const) {
      await bench.send(
        'far',
        packets.slice(from, to).map((packet) => fromFar('gre', packet)),
      );
      await watch.reach('server', to);
    }
    await bench.send('far', [fromFar('gre', rival)]);
    await watch.reach('server', 401);
    const outside = await waitFor(
      async () =>
        (await bench.acc.flows()).filter(({ snat }) => snat !== '').length === flows + 1 && bench.acc.flows(),
      { what: '41 flows with a binding' },
    );
    const bindings = new Map(
      outside.flatMap(({ tuple, snat }) =>
        tuple === undefined || snat === '' ? [] : [[`${tuple.src.slice(12).join('.')}:${tuple.sport}`, snat]],
      ),
    );
    expect(new Set(bindings.values()).size).toBe(flows + 1);
    // What comes back to each, and to none.
    const answers = [...bindings].map(([inner, outer], i) => {
      const [, port = ''] = outer.split(':');
      return {
        inner,
        packet: buildPacket({
          src: EXTERNAL,
          dst: SNAT,
          transport: { kind: 'udp', srcPort: 5000, dstPort: Number(port) },
          payload: Uint8Array.of(i, 0, 0, 0),
        }),
      };
    });
    const used = new Set([...bindings.values()].map((text) => Number(text.split(':')[1])));
    const stray = [...Array(65_536).keys()]
      .filter((port) => port > 50_000 && !used.has(port))
      .slice(0, 20)
      .map((port) =>
        buildPacket({ src: EXTERNAL, dst: SNAT, transport: { kind: 'udp', srcPort: 5000, dstPort: port } }),
      );
    await bench.send('server', [...answers.map(({ packet }) => packet), ...stray].map(fromUplink));
    await watch.reach('far', answers.length);
    await waitFor(async () => ((await books()).drops.snat_unknown ?? 0) >= stray.length, {
      what: '20 drops',
    });
    const seen = await watch.stop();

    const left = seen.server.map(plain);
    expect(new Set(left.map(({ src, dst, dport }) => `${src} ${dst} ${dport}`))).toEqual(
      new Set([`${SNAT} ${EXTERNAL} 5000`]),
    );
    expect(left.map(({ number }) => number).sort((a, b) => a - b)).toEqual([...packets.keys(), 9_999]);
    for (const { number, sport } of left) {
      const inner = number === 9_999 ? '10.10.10.12:41000' : `${VM}:${41_000 + (number % flows)}`;
      expect(bindings.get(inner)).toBe(`${SNAT}:${sport}`);
    }
    // Nothing else left by the link: no overlay header, no address of the overlay.
    for (const { bytes } of await link.stop()) {
      const frame = parseFrame(bytes);
      expect([frame.ok && frame.value.ipv4?.protocol, frame.ok && frame.value.ipv4?.src]).toEqual([17, SNAT]);
    }
    const replies = answers.map(({ inner, packet }) => {
      const [dst = '', port = ''] = inner.split(':');
      return {
        src: EXTERNAL,
        dst,
        protocol: 17,
        sport: 5000,
        dport: Number(port),
        number: plain({ packet, atUs: 0 }).number,
      };
    });
    const sent = [...packets, rival].map((packet) => plain({ packet, atUs: 0 }));
    const byNumber = (rows: ReturnType<typeof plain>[]) => rows.map((row) => JSON.stringify(row)).sort();
    for (const spot of ['fw1.in', 'fw1.out'] as const)
      expect(byNumber(seen[spot].map(plain))).toEqual(byNumber([...sent, ...replies]));
    expect(byNumber(seen.far.map(plain))).toEqual(byNumber(replies));
    expect([seen.client, seen['fw2.in'], seen['fw3.in']]).toEqual([[], [], []]);
    expect(await books()).toEqual({
      drops: { snat_unknown: 20 },
      lookups: { overlay: flows + 1 },
      bypassed: 0,
    });
    const { stats } = await bench.acc.counters();
    const { rx = 0n, forwarded = 0n, passed = 0n, punted = 0n, dropped = 0n } = stats;
    expect(rx).toBe(forwarded + passed + punted + dropped);
  });
});
