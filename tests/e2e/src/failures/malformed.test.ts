// SPDX-License-Identifier: Apache-2.0
import { standardAddresses, startCapture, startRawSender, waitFor } from '@detour/lab';
import {
  buildEthernet,
  buildFrame,
  buildIpv4,
  buildUdp,
  buildVxlan,
  checksum,
  ETHERTYPE,
  type FrameFields,
  VXLAN_PORT,
} from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, type Rig, raiseRig } from './rig.js';

const at = standardAddresses;
const client = { mac: '02:00:00:01:00:10', gateway: '02:00:00:01:00:01' };
const firewall = { mac: '02:00:00:03:00:11', gateway: '02:00:00:03:00:01', address: '192.0.2.11', vni: 4001 };
/** Addresses of broken packets: nothing else comes from or goes to them. */
const broken = { src: '10.1.0.20', src6: '2001:db8:1::20' };
const payload = Uint8Array.from({ length: 48 }, (_, i) => i);

const fromClient = (fields: Pick<FrameFields, 'transport'> & { readonly v6?: boolean }): Uint8Array =>
  buildFrame({
    ...{ dstMac: client.gateway, srcMac: client.mac, payload, transport: fields.transport },
    ...(fields.v6 ? { src: broken.src6, dst: at.server6 } : { src: broken.src, dst: at.server }),
  });

const tcp = { kind: 'tcp', srcPort: 40_000, dstPort: 80, flags: 0x02 } as const;
const udp = { kind: 'udp', srcPort: 40_000, dstPort: 8007 } as const;
const clientFrames: readonly Uint8Array[] = [
  fromClient({ transport: tcp }),
  fromClient({ transport: udp }),
  fromClient({ transport: { kind: 'echo', identifier: 7 } }),
  fromClient({ transport: tcp, v6: true }),
];

/** What fw1 gives back: an inner frame inside VXLAN, all lengths and checksums of the outer headers right. */
function outside(inner: Uint8Array): Uint8Array {
  const ends = { src: firewall.address, dst: at.edgeUnderlay };
  const vxlan = buildVxlan({ vni: firewall.vni }, inner);
  const datagram = buildUdp({ srcPort: 50_000, dstPort: VXLAN_PORT }, vxlan, ends);
  const packet = buildIpv4({ ...ends, protocol: 17, ttl: 64 }, datagram);
  return buildEthernet({ dst: firewall.gateway, src: firewall.mac, etherType: ETHERTYPE.ipv4 }, packet);
}
const inner = buildFrame({
  ...{ dstMac: '02:44:c0:00:02:01', srcMac: '02:fd:00:00:01:02', payload },
  ...{ src: broken.src, dst: at.server, transport: udp },
});
const returned = outside(inner);

const shortest = 14; // the kernel sends no frame without an Ethernet header

function* truncated(frame: Uint8Array): Iterable<Uint8Array> {
  for (let length = shortest; length < frame.length; length += 1) yield frame.slice(0, length);
}

/** Frames with one to eight random bytes changed behind the Ethernet header; the same ones at each run. */
function* flipped(frame: Uint8Array, count: number, seed: number): Iterable<Uint8Array> {
  let state = seed;
  const below = (bound: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  for (let i = 0; i < count; i += 1) {
    const copy = frame.slice();
    for (let n = 1 + below(8); n > 0; n -= 1) copy[shortest + below(copy.length - shortest)] = below(256);
    yield copy;
  }
}

describe('malformed packets on real devices', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-malformed');
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  /** Every counter of the gateway; the sums that must agree do. */
  const counts = async () => {
    const { drops, stats } = await rig.counters();
    const number = (all: Record<string, bigint>, name: string): number => Number(all[name] ?? 0n);
    const ends = ['forwarded', 'passed', 'punted', 'dropped'].map((name) => number(stats, name));
    const dropped = Object.values(drops).reduce((sum, count) => sum + Number(count), 0);
    return { drop: (name: string) => number(drops, name), rx: number(stats, 'rx'), ends, dropped };
  };

  it.each([
    ['client', 'on the port', 0.9, clientFrames.flatMap((frame) => [...truncated(frame)])],
    ['fw1', 'inside its tunnel', 0.9, [...truncated(inner)].map(outside)],
    ['fw1', 'with its tunnel header', 0, [...truncated(returned)]],
  ] as const)(
    'cut at every length, sent by %s, %s: counted, and nothing of them arrives anywhere',
    async (ns, _where, share, cut) => {
      const tunnel = `udp port ${VXLAN_PORT} and src host ${at.edgeUnderlay}`;
      await using server = await startCapture(rig.lab, 'server', 'eth0', {
        filter: `host ${broken.src} or host ${broken.src6}`,
      });
      await using underlay = await startCapture(rig.lab, 'underlay', 'edge1', { filter: tunnel });
      await using sender = startRawSender(rig.lab, ns, 'eth0');
      const before = await counts();
      await sender.send(cut);
      const risen = async () => {
        const after = await counts();
        const refused = ['malformed', 'tunnel_header', 'unsupported'].reduce(
          (sum, reason) => sum + after.drop(reason) - before.drop(reason),
          0,
        );
        return { refused, all: refused + (after.ends[1] ?? 0) - (before.ends[1] ?? 0) };
      };
      // What has no IP header, or is no packet of a tunnel, is the kernel's: passed, and its own way to drop it.
      const counted = async (): Promise<boolean> => (await risen()).all >= cut.length;
      await waitFor(counted, { what: 'all frames counted', everyMs: 50 });
      expect((await risen()).refused).toBeGreaterThanOrEqual(cut.length * share);
      expect(await server.stop()).toEqual([]);
      const ours = (await underlay.stop()).filter(({ bytes }) => holds(bytes, broken.src));
      expect(ours).toEqual([]);
    },
  );

  it('with random bytes changed: counted, what is forwarded is sound, and traffic beside them loses nothing', async () => {
    const pid = rig.stack.process('tunnel-gw').pid;
    const stream = await rig.stream();
    await using server = await startCapture(rig.lab, 'server', 'eth0', { filter: 'ip and not port 8007' });
    await using fromInside = startRawSender(rig.lab, 'client', 'eth0');
    await using fromFirewall = startRawSender(rig.lab, 'fw1', 'eth0');
    const before = await counts();
    const noise = clientFrames.flatMap((frame, i) => [...flipped(frame, 400, 11 + i)]);
    const returns = [...flipped(returned, 400, 5)];
    await fromInside.send(noise);
    await fromFirewall.send(returns);
    await rig.untilCounters(
      'all frames counted',
      (now) => Number(now.stats.rx ?? 0n) >= before.rx + noise.length + returns.length,
    );
    const after = await counts();
    expect(after.drop('malformed')).toBeGreaterThan(before.drop('malformed'));
    for (const { bytes } of await server.stop()) {
      const header = bytes.subarray(14, 14 + ((bytes[14] ?? 0) & 15) * 4);
      expect([[...header], checksum(header)]).toEqual([[...header], 0]);
    }
    expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
    expect(lostPackets(await stream.stop())).toBe(0);
    expect(rig.stack.process('tunnel-gw').pid).toBe(pid);
    expect(rig.stack.process('tunnel-gw').isRunning()).toBe(true);
    expect((await rig.status()).runningRevision).toBe(1);
  });

  it('every packet was forwarded, passed, punted or dropped, with a reason', async () => {
    await rig.stack.kill('bfd'); // its packets would come between the reads
    const { rx, ends, dropped } = await settled(counts);
    expect(ends.reduce((sum, count) => sum + count, 0)).toBe(rx);
    expect(dropped).toBe(ends[3]);
  });
});

/** Whether an IPv4 address is anywhere in a frame. */
function holds(bytes: Uint8Array, address: string): boolean {
  return Buffer.from(bytes).includes(Buffer.from(address.split('.').map(Number)));
}

/** Reads until two reads agree: packets go on passing meanwhile. */
async function settled<T extends { readonly rx: number }>(read: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 15_000;
  for (let last = await read(); ; ) {
    const next = await read();
    if (next.rx === last.rx) return next;
    if (performance.now() > deadline) throw new Error('packets never stop');
    last = next;
  }
}
