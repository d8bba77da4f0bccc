// SPDX-License-Identifier: Apache-2.0
import type { Lab } from '@detour/lab';
import { waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PairLab, startPairLab } from './pair-lab.js';
import { awaitCounts, countGateway, FLAGS, pairFrame, watchPair } from './pair-packets.js';

const VRFS = ['red', 'blue'] as const;
type Vrf = (typeof VRFS)[number];
/** The DSCP that all packets of a VRF carry; nothing on the way changes it, so that any packet tells where it belongs. */
const DSCP = { red: 10, blue: 18 } as const;
const PACKETS = 1_000_000;

/** Counts what arrives at every device of a namespace by the VRF to which it belongs. */
async function countMarks(lab: Lab, ns: string, devices: readonly string[]): Promise<void> {
  const chains = devices.map(
    (device) => `chain ${device} {
    type filter hook ingress device ${device} priority -300; policy accept;
    ${VRFS.map((vrf) => `ip dscp ${DSCP[vrf]} counter name ${vrf}`).join('\n    ')}
  }`,
  );
  await lab.exec(ns, ['nft', '-f', '-'], {
    input: `table netdev marks {\n  ${VRFS.map((vrf) => `counter ${vrf} { }`).join('\n  ')}\n  ${chains.join('\n  ')}\n}\n`,
  });
}

async function marksAt(lab: Lab, ns: string): Promise<Record<string, number>> {
  const { stdout } = await lab.exec(ns, ['nft', '-j', 'list', 'counters', 'table', 'netdev', 'marks']);
  const { nftables } = JSON.parse(stdout) as { nftables: { counter?: { name: string; packets: number } }[] };
  return Object.fromEntries(
    nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])),
  );
}

/** Numbers of a linear congruential generator (Numerical Recipes), so that a failure can be repeated. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/**
 * Packets of 10.1.0.0/16 to the south, of some hundred flows, with random TTL, flags and payload; one in five has random bytes anywhere behind
 * the type of service: other addresses, protocols, lengths and checksums.
 */
const SOURCES = 64;
const SOUTH_PORTS = [80, 8_007, 9_000] as const;

function* fuzz(vrf: Vrf, count: number, seed: number): Generator<Uint8Array> {
  const random = randomFrom(seed);
  const base = pairFrame({ direction: 'down', payload: 'x'.repeat(30), udp: true });
  for (let i = 0; i < count; i++) {
    const frame = base.slice();
    const view = new DataView(frame.buffer);
    frame[15] = DSCP[vrf] << 2;
    frame[22] = 2 + random(250);
    frame[23] = random(2) === 0 ? 6 : 17;
    view.setUint32(26, 0x0a011000 + random(SOURCES)); // 10.1.16.0/20
    view.setUint16(34, 1_024);
    view.setUint16(36, SOUTH_PORTS[random(SOUTH_PORTS.length)] ?? 0);
    if (frame[23] === 6) frame[47] = random(50) === 0 ? random(64) : FLAGS.data;
    frame[54] = random(256);
    const broken = random(5) === 0;
    for (let n = broken ? 1 + random(6) : 0; n > 0; n--) frame[16 + random(frame.length - 16)] = random(256);
    if (!broken || random(2) === 0) checksum(view);
    yield frame;
  }
}

function checksum(view: DataView): void {
  view.setUint16(24, 0);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~sum & 0xffff);
}

describe('two VRFs with the same addresses, each with a service of its own', () => {
  let bench: PairLab;
  beforeAll(async () => {
    bench = await startPairLab('vrfd-fuzz', { vrfs: VRFS });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  it('VRFD-4 four flows each appear on their own pair only', async () => {
    const views = await Promise.all(VRFS.map((vrf) => watchPair(bench, vrf)));
    const count = await countGateway(bench);
    for (const vrf of VRFS)
      for (const udp of [false, true]) {
        const flow = { direction: 'down', northPort: 45_000, port: udp ? 8_007 : 80, udp } as const;
        const text = `${vrf} ${udp ? 'udp' : 'tcp'}`;
        await bench.sender(`north-${vrf}`).send([pairFrame({ ...flow, flags: FLAGS.syn, payload: text })]);
      }
    await awaitCounts(count, ({ fromNode }) => fromNode['svm-red'] === 2 && fromNode['svm-blue'] === 2);
    const texts = (frames: readonly { text: string }[]) => frames.map(({ text }) => text).sort();
    for (const [i, vrf] of VRFS.entries()) {
      const seen = await views[i]?.stop();
      if (seen === undefined) throw new Error(`no view of ${vrf}`);
      for (const place of ['a', 'b', 'south', 'north'] as const)
        expect([vrf, place, texts(seen[place])]).toEqual([vrf, place, [`${vrf} tcp`, `${vrf} udp`]]);
    }
    expect((await count()).drops).toEqual({});
  });

  it('VRFD-4 of 1,000,000 random packets none is seen on a link of the other VRF', {
    timeout: 240_000,
  }, async () => {
    const places = VRFS.map((vrf) => ({ ...bench.place(vrf), vrf }));
    for (const { node, north, south } of places) {
      await countMarks(bench.lab, node, ['a', 'b']);
      for (const ns of [north, south]) await countMarks(bench.lab, ns, ['eth0']);
    }
    // Every flow is decided before the flood: most of it is to get through, not to wait for decisions.
    const first = await countGateway(bench);
    for (const { north } of places)
      for (const udp of [false, true])
        for (const port of SOUTH_PORTS)
          await bench.sender(north).send(
            Array.from({ length: SOURCES }, (_, i) => {
              const flow = { northPort: 1_024, port, udp, north: `10.1.16.${i}`, flags: FLAGS.syn };
              return pairFrame({ direction: 'down', ...flow });
            }),
          );
    const flows = SOURCES * SOUTH_PORTS.length * 2; // a third to ports that no rule names
    await awaitCounts(first, ({ fromNode }) =>
      VRFS.every((vrf) => (fromNode[`svm-${vrf}`] ?? 0) >= flows / 3),
    );
    const count = await countGateway(bench);
    await Promise.all(
      places.map(({ vrf, north }, i) => bench.sender(north).send(fuzz(vrf, PACKETS / 2, 7 + i))),
    );
    const counted = await awaitCounts(count, ({ received }) =>
      VRFS.every((vrf) => (received[`up-${vrf}`] ?? 0) >= PACKETS / 2),
    );
    const sums = await waitFor(
      async () => {
        const { stats } = await count();
        const { rx = 0, forwarded = 0, passed = 0, punted = 0, dropped = 0 } = stats;
        return rx === forwarded + passed + punted + dropped && { rx };
      },
      { what: 'rx = forwarded + passed + punted + dropped' },
    );
    expect(sums.rx).toBeGreaterThanOrEqual(PACKETS);
    for (const vrf of VRFS) expect(counted.received[`up-${vrf}`]).toBe(PACKETS / 2);
    for (const { vrf, node, north, south } of places) {
      const other = vrf === 'red' ? 'blue' : 'red';
      for (const ns of [node, north, south])
        expect([ns, other, (await marksAt(bench.lab, ns))[other]]).toEqual([ns, other, 0]);
      expect((await marksAt(bench.lab, node))[vrf]).toBeGreaterThan(PACKETS / 10); // a third is steered
      expect((await marksAt(bench.lab, south))[vrf]).toBeGreaterThan(PACKETS / 5);
    }
  });
});
