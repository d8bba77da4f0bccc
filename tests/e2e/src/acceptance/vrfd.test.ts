// SPDX-License-Identifier: Apache-2.0
import { waitFor } from '@detour/lab';
import { buildEthernet } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crowdMacs } from './crowd.js';
import { pairIntent } from './pair-intent.js';
import { type PairLab, startPairLab } from './pair-lab.js';
import {
  countGateway,
  edgeMacs,
  FLAGS,
  packetOf,
  pairFrame,
  sentBy,
  type Views,
  watchPair,
} from './pair-packets.js';
import { pairAddresses } from './pair-topology.js';

const VRFS = ['red', 'blue'];
const TEXT = 'a payload that nobody may change';

describe('a bump in the wire between the members of an address pair', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('vrfd', { vrfs: VRFS });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const north = (vrf = 'red') => bench.sender(`north-${vrf}`);
  const south = (vrf = 'red') => bench.sender(`south-${vrf}`);
  const macOf = async (address: string, device: string) => {
    const { stdout } = await bench.lab.exec('edge1', ['ip', '-j', 'neigh', 'show', address, 'dev', device]);
    return (JSON.parse(stdout) as { lladdr?: string }[])[0]?.lladdr;
  };
  /** Sends frames one by one, each after the one before has arrived, so that what is seen is in order. */
  const exchange = async (views: Views, frames: readonly [from: 'north' | 'south', frame: Uint8Array][]) => {
    for (const [from, frame] of frames) {
      const count = await countGateway(bench);
      await (from === 'north' ? north() : south()).send([frame]);
      await waitFor(async () => ((await count()).fromNode['svm-red'] ?? 0) === 1, {
        what: 'it to come back',
      });
    }
    return views.stop();
  };

  it('VRFD-1 a packet from the uplink leaves on La to the MAC resolved for the next hop, returns on Lb, and goes in; once each, unchanged', async () => {
    const macs = edgeMacs(bench, 'red');
    expect(await macOf('10.10.10.2', 'arm-svm-red-a')).toBe(macs.b); // answered by the gateway's own opposite member, through the node
    expect(await macOf('20.20.20.2', 'arm-svm-red-b')).toBe(macs.a);
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    const sent = [
      pairFrame({ direction: 'down', flags: FLAGS.syn }),
      pairFrame({ direction: 'down', payload: TEXT }),
    ];
    const seen = await exchange(
      views,
      sent.map((frame) => ['north', frame]),
    );
    for (const [i, frame] of sent.entries()) {
      const [a, b, inside] = [seen.a[i], seen.b[i], seen.south[i]];
      if (a === undefined || b === undefined || inside === undefined)
        throw new Error(`packet ${i} is missing`);
      expect([a.ethernet.src, a.ethernet.dst]).toEqual([macs.a, macs.b]);
      expect([b.ethernet.src, b.ethernet.dst]).toEqual([macs.a, macs.b]);
      expect(a.atUs).toBeLessThanOrEqual(b.atUs);
      expect(b.atUs).toBeLessThanOrEqual(inside.atUs);
      expect(packetOf(a.bytes)).toEqual(packetOf(frame)); // also the TTL: crossing is no hop
      expect(packetOf(b.bytes)).toEqual(packetOf(frame));
      expect(inside.ipv4?.ttl).toBe(63); // routed once
      expect(packetOf(inside.bytes, frame)).toEqual(packetOf(frame));
    }
    expect([seen.a.length, seen.b.length, seen.south.length]).toEqual([2, 2, 2]);
    expect(await count()).toMatchObject({
      drops: {},
      received: { 'up-red': 2 },
      toNode: { 'svm-red': 2 },
      fromNode: { 'svm-red': 2 },
    });
  });

  it('VRFD-2 the reply leaves on Lb, returns on La and goes up; no link carries a packet twice in one direction', async () => {
    const macs = edgeMacs(bench, 'red');
    const northPort = 40_002;
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    const reply = pairFrame({ direction: 'up', northPort, flags: FLAGS.synAck });
    const data = pairFrame({ direction: 'up', northPort, payload: TEXT });
    const seen = await exchange(views, [
      ['north', pairFrame({ direction: 'down', northPort, flags: FLAGS.syn })],
      ['south', reply],
      ['south', data],
    ]);
    const up = { a: sentBy(seen.a, macs.b), b: sentBy(seen.b, macs.b) };
    expect(up.b.map(({ bytes }) => packetOf(bytes))).toEqual([packetOf(reply), packetOf(data)]); // into the node by Lb
    expect(up.a.map(({ bytes }) => packetOf(bytes))).toEqual([packetOf(reply), packetOf(data)]); // out of it on La
    expect(up.b.every(({ ethernet }) => ethernet.dst === macs.a)).toBe(true);
    for (const [i, { atUs }] of up.b.entries()) expect(atUs).toBeLessThanOrEqual(up.a[i]?.atUs ?? 0);
    const arrived = sentBy(seen.north, crowdMacs.client.gatewayMac);
    expect(arrived.map(({ bytes }) => packetOf(bytes, reply))).toEqual([
      packetOf(reply),
      packetOf(data, reply),
    ]);
    expect(arrived.map(({ ipv4 }) => ipv4?.ttl)).toEqual([63, 63]);
    const down = { a: sentBy(seen.a, macs.a), b: sentBy(seen.b, macs.a) };
    expect([down.a.length, down.b.length, seen.a.length, seen.b.length]).toEqual([1, 1, 3, 3]);
    expect(await count()).toMatchObject({ drops: {}, received: { 'up-red': 1, 'in-red': 2 } });
  });

  it('VRFD-9 what returns on Lb matches a rule and is not redirected again: no rule is looked up on La or Lb', async () => {
    const northPort = 40_009;
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    const frames = Array.from({ length: 1_000 }, (_, i) =>
      pairFrame({ direction: 'down', northPort, ...(i === 0 ? { flags: FLAGS.syn } : { payload: `${i}` }) }),
    );
    await north().send(frames.slice(0, 1));
    await waitFor(async () => ((await count()).fromNode['svm-red'] ?? 0) === 1, { what: 'the first packet' });
    await north().send(frames.slice(1));
    await waitFor(async () => ((await count()).fromNode['svm-red'] ?? 0) >= 1_000, { what: '1,000 packets' });
    const seen = await views.stop();
    expect([seen.a.length, seen.b.length, seen.south.length]).toEqual([1_000, 1_000, 1_000]);
    expect(new Set(seen.b.map(({ text }) => text)).size).toBe(1_000);
    const counted = await count();
    expect(counted).toMatchObject({
      drops: {},
      toNode: { 'svm-red': 1_000 },
      fromNode: { 'svm-red': 1_000 },
    });
    expect(counted.received['lb-red']).toBeGreaterThanOrEqual(1_000); // the packets, and BFD
    expect(counted.lookups).toEqual({ 'up-red': 1 });
  });

  it('VRFD-10 the node sees the original addresses and the two edge MACs, and has no address of its own', async () => {
    const { stdout } = await bench.lab.exec('svm-red', ['ip', '-j', 'address', 'show']);
    const links = JSON.parse(stdout) as { ifname: string; addr_info: { local: string }[] }[];
    const own = links.filter(({ ifname }) => ifname !== 'lo').flatMap(({ addr_info }) => addr_info);
    expect(own).toEqual([]);
    const macs = edgeMacs(bench, 'red');
    const northPort = 40_010;
    await using views = await watchPair(bench, 'red');
    const seen = await exchange(views, [
      ['north', pairFrame({ direction: 'down', northPort, flags: FLAGS.syn })],
      ['south', pairFrame({ direction: 'up', northPort, flags: FLAGS.synAck })],
    ]);
    const fields = [...seen.a, ...seen.b].map(({ ipv4, ethernet, tcp }) => ({
      ip: [ipv4?.src, ipv4?.dst],
      ports: [tcp?.srcPort, tcp?.dstPort],
      mac: [ethernet.src, ethernet.dst],
    }));
    const { north: from, south: to } = pairAddresses;
    const down = { ip: [from, to], ports: [northPort, 80], mac: [macs.a, macs.b] };
    const up = { ip: [to, from], ports: [80, northPort], mac: [macs.b, macs.a] };
    expect(fields).toEqual([down, up, down, up]);
  });

  it('VRFD-3 the same 5-tuple in VRF blue, where no rule is, goes straight, and is never seen on a link of red', async () => {
    await bench.apply(pairIntent(VRFS, { unruled: ['blue'] }));
    const northPort = 40_003;
    await using red = await watchPair(bench, 'red');
    await using blue = await watchPair(bench, 'blue');
    const count = await countGateway(bench);
    const frames = (vrf: string) => [
      pairFrame({ direction: 'down', northPort, flags: FLAGS.syn, payload: vrf }),
      ...Array.from({ length: 9 }, () => pairFrame({ direction: 'down', northPort, payload: vrf })),
    ];
    for (const vrf of VRFS) {
      for (const frame of frames(vrf)) await north(vrf).send([frame]);
    }
    await waitFor(async () => ((await count()).stats.forwarded ?? 0) >= 30, { what: 'both to pass' });
    const seen = { red: await red.stop(), blue: await blue.stop() };
    const texts = (frames: readonly { text: string }[]) => frames.map(({ text }) => text);
    const ten = (vrf: string) => Array(10).fill(vrf);
    expect(texts(seen.red.a)).toEqual(ten('red'));
    expect(texts(seen.red.b)).toEqual(ten('red'));
    expect(texts(seen.red.south)).toEqual(ten('red'));
    expect(texts(seen.blue.south)).toEqual(ten('blue'));
    expect([seen.blue.a, seen.blue.b]).toEqual([[], []]);
    expect(seen.blue.south.map(({ ipv4 }) => ipv4?.ttl)).toEqual(Array(10).fill(63));
    expect(await count()).toMatchObject({
      drops: {},
      received: { 'up-red': 10, 'up-blue': 10 },
      toNode: { 'svm-red': 10 },
    });
    await bench.apply(bench.intent);
  });

  it('VRFD-11 a rule of higher priority that says "do not redirect" beats the broader one', async () => {
    const { rules = [] } = bench.intent;
    const allow = {
      name: 'direct',
      priority: 200,
      match: {
        vrf: 'red',
        source: [`${pairAddresses.north}/32`],
        protocol: 'tcp' as const,
        destinationPorts: [80],
      },
      action: 'allow' as const,
    };
    await bench.apply({ ...bench.intent, rules: [...rules, allow] });
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    const northPort = 40_011;
    await north().send([
      pairFrame({ direction: 'down', northPort, flags: FLAGS.syn }),
      pairFrame({ direction: 'down', northPort, north: '10.1.16.7', flags: FLAGS.syn }), // of the broader rule only
    ]);
    await waitFor(async () => ((await count()).stats.forwarded ?? 0) >= 3, { what: 'both to pass' });
    const seen = await views.stop();
    expect(seen.a.map(({ ipv4 }) => ipv4?.src)).toEqual(['10.1.16.7']);
    expect(seen.south.map(({ ipv4 }) => ipv4?.src).sort()).toEqual([pairAddresses.north, '10.1.16.7'].sort());
    expect(await count()).toMatchObject({ drops: {}, toNode: { 'svm-red': 1 }, received: { 'up-red': 2 } });
    await bench.apply(bench.intent);
  });

  it('IPv6 goes the same way as IPv4, and a frame that is neither is dropped as unsupported', async () => {
    const six = { north: '2001:db8:1::10', south: '2001:db8:2::9', northPort: 40_012 };
    const count = await countGateway(bench);
    await using views = await watchPair(bench, 'red');
    await north().send([pairFrame({ direction: 'down', ...six, flags: FLAGS.syn })]);
    await waitFor(async () => ((await count()).fromNode['svm-red'] ?? 0) === 1, { what: 'it to come back' });
    const other = { dst: crowdMacs.client.gatewayMac, src: crowdMacs.client.ownMac, etherType: 0x88cc };
    await north().send([buildEthernet(other, new Uint8Array(46))]);
    await waitFor(async () => ((await count()).drops.unsupported ?? 0) === 1, {
      what: 'the other to be dropped',
    });
    const seen = await views.stop();
    expect([seen.a.length, seen.b.length, seen.south.length]).toEqual([1, 1, 1]);
    expect(seen.a[0]?.ipv6).toMatchObject({ src: six.north, dst: six.south, hopLimit: 64 });
    expect(seen.south[0]?.ipv6?.hopLimit).toBe(63);
    expect((await count()).drops).toEqual({ unsupported: 1 });
  });
});
