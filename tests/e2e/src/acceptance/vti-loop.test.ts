// SPDX-License-Identifier: Apache-2.0
// VTI-4: what SVC1 returns is not marked, by tunnel-gw's knob for tests, so that the guard against loops alone is left.
import { buildPacket } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromClient, startVtiBench, type VtiBench } from './vti-bench.js';

const PACKETS = 10_000;
const FLOWS = 100;
/** Passes of one packet through a service, for one rule. */
const N = 1;

const datagram = (number: number): Uint8Array =>
  buildPacket({
    src: '10.1.0.10',
    dst: '203.0.113.9',
    transport: { kind: 'udp', srcPort: 41_000 + (number % FLOWS), dstPort: 443 },
    payload: new Uint8Array(Uint32Array.of(number, 0x6465746f).buffer),
  });
const numberOf = (packet: Uint8Array): number =>
  new DataView(packet.buffer, packet.byteOffset + 28).getUint32(0, true);

describe('a service whose packets are not marked as serviced', () => {
  let bench: VtiBench;
  beforeAll(async () => {
    bench = await startVtiBench('acc-vti-loop', {
      vti: 'wan',
      protocol: 'geneve',
      gateway: { DETOUR_TEST_UNMARKED: 'true' },
      routes: ['203.0.113.0/24 dev vti-wan'],
      intent: (standard) => ({
        ...standard,
        services: [1, 2, 3].map((n) => ({ name: `svc${n}` })),
        nodes: (standard.nodes ?? []).map((node, i) => ({ ...node, service: `svc${i + 1}` })),
        chains: [1, 2, 3].map((n) => ({ name: `to${n}`, hops: [`svc${n}`] })),
        rules: [
          {
            name: 'u443',
            priority: 100,
            match: { vrf: 'red', destination: ['203.0.113.0/24'], protocol: 'udp', destinationPorts: [443] },
            action: { chain: 'to1' },
          },
        ],
      }),
    });
  }, 120_000);
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('VTI-4 the guard drops what SVC1 returns as service_loop: 10,000 packets, each counted, none seen by SVC1 more than N times', async () => {
    await using watch = await bench.watch('udp port 443');
    const books = await bench.books();
    // The first packet of each flow, then the others: what waits for a decision is bounded.
    const send = async (from: number, to: number) => {
      const packets = Array.from({ length: to - from }, (_, i) => datagram(from + i));
      await bench.send('client', packets.map(fromClient));
      await watch.reach('fw1.out', to);
    };
    await send(0, FLOWS);
    for (let at = FLOWS; at < PACKETS; at += 225) await send(at, at + 225);
    const seen = await watch.stop();
    const passes = new Map<number, number>();
    for (const { packet } of seen['fw1.in'])
      passes.set(numberOf(packet), (passes.get(numberOf(packet)) ?? 0) + 1);
    expect(passes.size).toBe(PACKETS);
    expect(Math.max(...passes.values())).toBe(N);
    expect(seen['fw1.out'].length).toBe(PACKETS);
    expect(await books()).toEqual({
      drops: { service_loop: PACKETS },
      lookups: { inside: FLOWS },
      bypassed: 0,
    });
    const elsewhere = (['fw2.in', 'fw3.in', 'far', 'client', 'server'] as const).map(
      (spot) => seen[spot].length,
    );
    expect(elsewhere).toEqual([0, 0, 0, 0, 0]);
  }, 120_000);
});
