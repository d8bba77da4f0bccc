// SPDX-License-Identifier: Apache-2.0
// VRFD-12: what is no ordinary IPv4 packet at a pair. Each case names its row of docs/packet.md, which must say what is seen here.
import { readFileSync } from 'node:fs';
import {
  buildArp,
  buildEthernet,
  buildIpv6,
  buildIpv6Fragment,
  buildPacket,
  ETHERTYPE,
  fragmentIpv4,
  fromHex,
  icmpErrorAbout,
  toHex,
} from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crowdMacs } from './crowd.js';
import { type PairLab, startPairLab } from './pair-lab.js';
import {
  awaitCounts,
  countGateway,
  type Direction,
  edgeMacs,
  type GatewayCounts,
  type Seen,
  sentBy,
  watchPair,
} from './pair-packets.js';
import { pairAddresses } from './pair-topology.js';

const DOC = readFileSync(new URL('../../../../docs/packet.md', import.meta.url), 'utf8');
/** What docs/packet.md says becomes of a packet: the second cell of the row that begins so. */
function documented(packet: string): string {
  const row = DOC.split('\n').find((line) => line.startsWith(`| ${packet}`));
  return row?.split('|')[2]?.trim() ?? `docs/packet.md has no row that begins with “${packet}”`;
}

const FAMILIES = {
  IPv4: {
    north: pairAddresses.north,
    south: pairAddresses.south,
    router: '203.0.113.77',
    beyond: '10.1.0.77',
  },
  IPv6: {
    north: '2001:db8:1::10',
    south: '2001:db8:2::9',
    router: '2001:db8:2::77',
    beyond: '2001:db8:1::77',
  },
} as const;
type Family = keyof typeof FAMILIES;
const FAMILY_NAMES = ['IPv4', 'IPv6'] as const;
const DIRECTIONS = ['down', 'up'] as const;
const PORT = 8_007;

interface Datagram {
  readonly family: Family;
  readonly direction: Direction;
  readonly northPort: number;
  readonly bytes?: number;
}

/** One of the flow north:northPort → south:8007, which the rule of VRF red steers. */
function datagram({ family, direction, northPort, bytes = 32 }: Datagram): Uint8Array {
  const { north, south } = FAMILIES[family];
  const [src, dst] = direction === 'down' ? [north, south] : [south, north];
  const [srcPort, dstPort] = direction === 'down' ? [northPort, PORT] : [PORT, northPort];
  return buildPacket({
    src,
    dst,
    transport: { kind: 'udp', srcPort, dstPort },
    payload: Uint8Array.from({ length: bytes }, (_, i) => i),
    ipv4: { dontFragment: false, id: northPort },
  });
}

/** The packet in three fragments. */
function fragmentsOf(packet: Uint8Array, family: Family, id: number): Uint8Array[] {
  if (family === 'IPv4') {
    const cut = fragmentIpv4(packet, 20 + 416);
    if (!cut.ok) throw new Error(cut.why);
    return cut.value;
  }
  const body = packet.subarray(40);
  const [src, dst] = [packet.subarray(8, 24), packet.subarray(24, 40)].map(textOf6) as [string, string];
  return [0, 416, 832].map((at) => {
    const fields = { nextHeader: 17, offset: at / 8, more: at < 832, id };
    return buildIpv6({ src, dst, nextHeader: 44 }, buildIpv6Fragment(fields, body.subarray(at, at + 416)));
  });
}
const textOf6 = (address: Uint8Array): string => toHex(address).replace(/(.{4})(?!$)/g, '$1:');

const opposite = (direction: Direction): Direction => (direction === 'down' ? 'up' : 'down');
/** As the host of the side sends it from which this direction comes. */
function frameOf(direction: Direction, packet: Uint8Array): Uint8Array {
  const { gatewayMac, ownMac } = crowdMacs[direction === 'down' ? 'client' : 'server'];
  const etherType = (packet[0] ?? 0) >> 4 === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4;
  return buildEthernet({ dst: gatewayMac, src: ownMac, etherType }, packet);
}
/** The IP packet, without what a router changes. */
function apartFromTtl(packet: Uint8Array): string {
  const copy = Uint8Array.from(packet);
  if ((copy[0] ?? 0) >> 4 === 6) copy[7] = 0;
  else {
    copy[8] = 0;
    copy.fill(0, 10, 12);
  }
  return toHex(copy);
}
const hexes = (packets: readonly Uint8Array[]): string[] => packets.map(apartFromTtl).sort();
const inFrames = (frames: readonly Seen[]): string[] => hexes(frames.map(({ bytes }) => bytes.subarray(14)));

describe('what is no ordinary IPv4 packet, at a pair', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('vrfd-odd');
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const send = (direction: Direction, packets: readonly Uint8Array[]) =>
    bench
      .sender(direction === 'down' ? 'north-red' : 'south-red')
      .send(packets.map((packet) => frameOf(direction, packet)));
  const from = (counts: GatewayCounts) => counts.fromNode['svm-red'] ?? 0;
  const open = async (family: Family, northPort: number) => {
    const count = await countGateway(bench);
    await send('down', [datagram({ family, direction: 'down', northPort })]);
    await awaitCounts(count, (counts) => from(counts) === 1);
  };

  /** Sends, and proves that exactly these cross the node once, in this direction, and arrive. */
  const crosses = async (direction: Direction, packets: readonly Uint8Array[]): Promise<GatewayCounts> => {
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    await send(direction, packets);
    await awaitCounts(count, (counts) => from(counts) >= packets.length);
    const seen = await views.stop();
    const macs = edgeMacs(bench, 'red');
    const own = direction === 'down' ? macs.a : macs.b;
    for (const place of ['a', 'b'] as const) {
      expect([place, inFrames(sentBy(seen[place], own))]).toEqual([place, hexes(packets)]);
      expect([place, seen[place].length]).toEqual([place, packets.length]); // none the other way
    }
    const [there, mac] =
      direction === 'down'
        ? [seen.south, crowdMacs.server.gatewayMac]
        : [seen.north, crowdMacs.client.gatewayMac];
    expect(inFrames(sentBy(there, mac))).toEqual(hexes(packets));
    const counts = await count();
    expect(counts).toMatchObject({
      drops: {},
      toNode: { 'svm-red': packets.length },
      fromNode: { 'svm-red': packets.length },
      received: { [direction === 'down' ? 'up-red' : 'in-red']: packets.length },
    });
    return counts;
  };

  it('VRFD-12 what is not IP: ARP is the stack’s, anything else is dropped as unsupported, and nothing of it reaches the node', async () => {
    expect(documented('ARP')).toBe('passed');
    expect(documented('any other EtherType than IPv4 and IPv6')).toMatch(/^dropped, `unsupported`/);
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red', 'arp or ether proto 0x88b5 or ether proto 0x88cc');
    const { ownMac, gatewayMac } = crowdMacs.client;
    const question = buildArp({
      op: 'request',
      senderMac: ownMac,
      senderIp: '10.1.0.10',
      targetMac: '00:00:00:00:00:00',
      targetIp: '10.1.0.1',
    });
    const head = { src: ownMac, dst: gatewayMac };
    const lldp = fromHex('0207040200000001000403073033600602007800000000'.padEnd(92, '0'));
    await bench
      .sender('north-red')
      .send([
        buildEthernet({ ...head, dst: 'ff:ff:ff:ff:ff:ff', etherType: ETHERTYPE.arp }, question),
        buildEthernet({ ...head, etherType: 0x88b5 }, new Uint8Array(46)),
        buildEthernet({ ...head, dst: '01:80:c2:00:00:0e', etherType: 0x88cc }, lldp),
      ]);
    const counts = await awaitCounts(count, ({ drops }) => drops.unsupported === 2);
    expect(counts.drops).toEqual({ unsupported: 2 });
    expect(counts.received).toMatchObject({ 'up-red': 3 });
    expect([counts.toNode, counts.fromNode]).toEqual([{}, {}]);
    const seen = await views.stop();
    const answers = sentBy(seen.north, gatewayMac).filter(({ ethernet }) => ethernet.dst === ownMac);
    expect(answers.map(({ ethernet }) => ethernet.etherType)).toEqual([ETHERTYPE.arp]);
    const ofOthers = [...seen.a, ...seen.b, ...seen.south].filter(
      ({ ethernet }) => ethernet.etherType !== ETHERTYPE.arp || ethernet.src === ownMac,
    );
    expect(ofOthers).toEqual([]);
  });

  const orders = FAMILY_NAMES.flatMap((family) =>
    DIRECTIONS.flatMap((direction) =>
      (['first', 'last'] as const).map(
        (first, i) =>
          [`${family} ${direction}, the first one sent ${first}`, { family, direction, first, i }] as const,
      ),
    ),
  );
  it.each(orders)(
    'VRFD-12 fragments, %s: all take one path through the same node',
    async (_title, { family, direction, first, i }) => {
      expect(DOC).toContain(
        'later ones are packets of the same flow, through the same nodes, in both directions',
      );
      const northPort = 41_000 + (family === 'IPv6' ? 4 : 0) + (direction === 'up' ? 2 : 0) + i;
      if (direction === 'up') await open(family, northPort);
      const whole = datagram({ family, direction, northPort, bytes: 1_200 });
      const [one, ...later] = fragmentsOf(whole, family, northPort);
      if (one === undefined) throw new Error('nothing was cut');
      const counts = await crosses(direction, first === 'first' ? [one, ...later] : [...later, one]);
      expect(counts.stats.fragment_held).toBe(first === 'first' ? undefined : later.length);
      expect(counts.stats.fragment_followed).toBeGreaterThanOrEqual(2 * later.length); // towards the node and back
    },
  );

  it.each(FAMILY_NAMES)(
    'VRFD-12 a later fragment of %s whose first never comes is held, then dropped as fragment',
    async (family) => {
      expect(documented('a later fragment whose first has not come')).toBe(
        'held, 500 ms at most; then dropped, `fragment`',
      );
      const whole = datagram({ family, direction: 'down', northPort: 41_900, bytes: 1_200 });
      const count = await countGateway(bench);
      await using views = await watchPair(bench, 'red');
      await send('down', fragmentsOf(whole, family, 41_900).slice(1, 2));
      const counts = await awaitCounts(count, ({ drops }) => drops.fragment === 1);
      expect(counts).toMatchObject({ drops: { fragment: 1 }, toNode: {}, fromNode: {} });
      const { a, b, south } = await views.stop();
      expect([...a, ...b, ...south]).toEqual([]);
    },
  );

  it('VRFD-12 IPv6 flows are redirected like those of IPv4: both directions, the same node', async () => {
    expect(documented('anything else')).toMatch(/^decided, or punted/);
    const flow = { family: 'IPv6', northPort: 42_000 } as const;
    const opened = await crosses('down', [datagram({ ...flow, direction: 'down' })]);
    expect(opened.lookups).toEqual({ 'up-red': 1 });
    for (const direction of ['up', 'down'] as const)
      expect((await crosses(direction, [datagram({ ...flow, direction })])).lookups).toEqual({});
    const rows = (await bench.flows()).filter(({ nodes }) => nodes.includes('svm-red'));
    expect(rows.length).toBeGreaterThan(0);
  });

  const errors = FAMILY_NAMES.flatMap((family) =>
    DIRECTIONS.flatMap((direction) =>
      (['host', 'router'] as const).map(
        (who, i) => [`of ${family}, ${direction}, from the ${who}`, { family, direction, who, i }] as const,
      ),
    ),
  );
  it.each(errors)(
    'VRFD-12 an ICMP error %s, about a redirected flow takes the flow’s way',
    async (_title, { family, direction, who, i }) => {
      expect(DOC).toContain('An ICMP error follows the flow that it quotes');
      const northPort = 43_000 + (family === 'IPv6' ? 4 : 0) + (direction === 'up' ? 2 : 0) + i;
      await open(family, northPort);
      // What goes down was sent by the north's side, about a packet that came up to it.
      const about = datagram({ family, direction: opposite(direction), northPort });
      const ends = FAMILIES[family];
      const host = direction === 'down' ? ends.north : ends.south;
      const router = direction === 'down' ? ends.beyond : ends.router;
      const error = icmpErrorAbout(about, who === 'host' ? host : router, { kind: 'unreachable' });
      if (!error.ok) throw new Error(`${error.why}, got ${error.got}`);
      expect((await crosses(direction, [error.value])).lookups).toEqual({});
    },
  );

  it.each(FAMILY_NAMES)(
    'VRFD-12 an ICMP error of %s about a flow that is not known is a flow of its own, which no rule redirects',
    async (family) => {
      expect(DOC).toContain('the error is a flow of its own');
      const about = datagram({ family, direction: 'down', northPort: 44_000 });
      const error = icmpErrorAbout(about, FAMILIES[family].south, { kind: 'unreachable' });
      if (!error.ok) throw new Error(`${error.why}, got ${error.got}`);
      const count = await countGateway(bench);
      await using views = await watchPair(bench, 'red');
      await send('up', [error.value]);
      const counts = await awaitCounts(count, ({ stats }) => (stats.forwarded ?? 0) >= 1);
      expect(counts).toMatchObject({ drops: {}, toNode: {}, lookups: { 'in-red': 1 } });
      const { a, b, north } = await views.stop();
      expect([...a, ...b]).toEqual([]);
      expect(inFrames(sentBy(north, crowdMacs.client.gatewayMac))).toEqual(hexes([error.value]));
    },
  );
});
