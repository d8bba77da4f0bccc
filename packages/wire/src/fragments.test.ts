// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concatBytes } from './bytes.js';
import { fragmentIpv4 } from './fragments.js';
import { buildIpv4, parseIpv4 } from './ipv4.js';

const ends = { src: '192.0.2.1', dst: '198.51.100.9', protocol: 17, dontFragment: false } as const;
const parts = (packet: Uint8Array, mtu: number) => {
  const cut = fragmentIpv4(packet, mtu);
  if (!cut.ok) throw new Error(`${cut.why}, got ${cut.got}`);
  return cut.value.map((one) => {
    const parsed = parseIpv4(one);
    if (!parsed.ok) throw new Error(`${parsed.why}, got ${parsed.got}`);
    return { ...parsed.value, length: one.length };
  });
};

describe('fragmentIpv4', () => {
  it('cuts at multiples of eight bytes, and a fragment again as a part of the whole', () => {
    const packet = buildIpv4({ ...ends, id: 77, tos: 0xb9, ttl: 9 }, new Uint8Array(1480).fill(5));
    const [one, two, ...more] = parts(packet, 1450);
    expect([one?.length, two?.length, more.length]).toEqual([20 + 1424, 20 + 56, 0]);
    expect(one?.header).toMatchObject({ fragmentOffset: 0, moreFragments: true, id: 77, tos: 0xb9, ttl: 9 });
    expect(two?.header).toMatchObject({
      fragmentOffset: 178,
      moreFragments: false,
      id: 77,
      tos: 0xb9,
      ttl: 9,
    });
    const middle = buildIpv4(
      { ...ends, id: 77, moreFragments: true, fragmentOffset: 100 },
      new Uint8Array(64),
    );
    expect(parts(middle, 60).map(({ header }) => [header.fragmentOffset, header.moreFragments])).toEqual([
      [100, true],
      [105, true],
    ]);
  });

  it('repeats the options that say so, and those alone', () => {
    const record = [7, 7, 4, 0, 0, 0, 0]; // record route: first fragment only
    const router = [148, 4, 0, 0]; // router alert: in all
    const packet = buildIpv4(
      { ...ends, options: Uint8Array.from([1, ...record, ...router]) },
      new Uint8Array(100),
    );
    const [one, two] = parts(packet, 80);
    expect([...(one?.header.options ?? [])]).toEqual([1, ...record, ...router]);
    expect([...(two?.header.options ?? [])]).toEqual(router);
  });

  it('refuses what may not be cut, and an mtu without room', () => {
    const packet = buildIpv4({ ...ends, dontFragment: true }, new Uint8Array(100));
    expect(fragmentIpv4(packet, 100)).toMatchObject({ ok: false, got: 'DF' });
    expect(fragmentIpv4(packet, 120)).toMatchObject({ ok: true, value: [packet] });
    expect(fragmentIpv4(buildIpv4(ends, new Uint8Array(100)), 27)).toMatchObject({ ok: false, got: '27' });
    expect(fragmentIpv4(packet.subarray(0, 50), 28)).toMatchObject({ ok: false });
  });

  it('the fragments are the payload again, none larger than asked', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.integer({ min: 68, max: 200 }),
        fc.uint8Array({ maxLength: 40 }).map((bytes) => bytes.slice(0, bytes.length & ~3)),
        (payload, mtu, options) => {
          const cut = parts(buildIpv4({ ...ends, options }, payload), mtu);
          expect(Math.max(...cut.map(({ length }) => length))).toBeLessThanOrEqual(mtu);
          expect(concatBytes(...cut.map((one) => one.payload))).toEqual(payload);
          expect(cut.map(({ header }) => header.moreFragments)).toEqual(
            cut.map((_, i) => i < cut.length - 1),
          );
        },
      ),
    );
  });
});
