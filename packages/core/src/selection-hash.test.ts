// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normaliseTuple, reverseTuple, type Tuple } from './flow.js';
import { AFFINITIES, hashKeyFromHex, selectionHash } from './selection-hash.js';

const secret = hashKeyFromHex('0102030405060708');
const address = fc.uint8Array({ minLength: 16, maxLength: 16 });
const tuple: fc.Arbitrary<Tuple> = fc.record({
  vrf: fc.integer({ min: 1, max: 4095 }),
  src: address,
  dst: address,
  sport: fc.integer({ min: 0, max: 65535 }),
  dport: fc.integer({ min: 0, max: 65535 }),
  proto: fc.integer({ min: 0, max: 255 }),
});

describe('selectionHash', () => {
  it('is the same for both directions, for every affinity', () => {
    fc.assert(
      fc.property(tuple, fc.constantFrom(...AFFINITIES), (t, affinity) => {
        const forward = normaliseTuple(t);
        const reverse = normaliseTuple(reverseTuple(t));
        if (forward.norm === reverse.norm) return; // both ends equal: one end point, nothing to tell apart
        expect(selectionHash(forward.key, affinity, forward.norm === 1, secret)).toBe(
          selectionHash(reverse.key, affinity, reverse.norm === 0, secret),
        );
      }),
    );
  });

  it('looks only at the fields of its affinity', () => {
    fc.assert(
      fc.property(tuple, fc.integer({ min: 0, max: 65535 }), (t, sport) => {
        const x = normaliseTuple(t);
        const y = normaliseTuple({ ...t, sport });
        if (x.norm !== y.norm) return;
        for (const affinity of ['3-tuple', '2-tuple', 'source'] as const) {
          expect(selectionHash(x.key, affinity, x.norm === 1, secret)).toBe(
            selectionHash(y.key, affinity, y.norm === 1, secret),
          );
        }
      }),
    );
  });

  it('spreads evenly, and another key gives another spread', () => {
    const counts = new Array<number>(10).fill(0);
    let same = 0;
    const other = hashKeyFromHex('ffeeddccbbaa9988');
    for (let i = 0; i < 20_000; i++) {
      const { key } = normaliseTuple({
        vrf: 1,
        proto: 6,
        src: new Uint8Array(16),
        dst: new Uint8Array(16).fill(1),
        sport: i,
        dport: 80,
      });
      const slot = selectionHash(key, '5-tuple', false, secret) % 10;
      counts[slot] = (counts[slot] ?? 0) + 1;
      if (selectionHash(key, '5-tuple', false, other) % 10 === slot) same++;
    }
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
    expect(Math.abs(same - 2000)).toBeLessThan(200);
  });
});
