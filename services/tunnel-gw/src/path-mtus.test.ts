// SPDX-License-Identifier: Apache-2.0
import { manualClock } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { PathMtus } from './path-mtus.js';

function book() {
  const clock = manualClock();
  return { clock, book: new PathMtus(() => clock.monoMs()) };
}
const FOUR = '192.0.2.11';
const SIX = '2001:db8::11';

describe('PathMtus', () => {
  it('keeps the smallest that was said of each remote end', () => {
    const { book: b } = book();
    expect(b.within(FOUR, 1500)).toBe(1500);
    expect(b.learn({ remote: FOUR, mtu: 1400, ofBytes: 1500 })).toBe(true);
    expect(b.learn({ remote: FOUR, mtu: 1400, ofBytes: 1500 })).toBe(false);
    expect(b.learn({ remote: FOUR, mtu: 1450, ofBytes: 1500 })).toBe(false);
    expect(b.learn({ remote: '2001:db8:0::11', mtu: 1300, ofBytes: 1400 })).toBe(true);
    expect([b.within(FOUR, 1500), b.within(SIX, 1500), b.within(FOUR, 1300)]).toEqual([1400, 1300, 1300]);
  });

  it('does not believe what cannot be, nor what would make packets smaller than a network may ask', () => {
    const { book: b } = book();
    expect(b.learn({ remote: FOUR, mtu: 1500, ofBytes: 1500 })).toBe(false);
    expect(b.learn({ remote: FOUR, mtu: 575, ofBytes: 1500 })).toBe(false);
    expect(b.learn({ remote: SIX, mtu: 1279, ofBytes: 1500 })).toBe(false);
    expect([b.of(FOUR), b.of(SIX)]).toEqual([undefined, undefined]);
    expect(b.learn({ remote: FOUR, mtu: 576, ofBytes: 1500 })).toBe(true);
    expect(b.learn({ remote: SIX, mtu: 1280, ofBytes: 1500 })).toBe(true);
  });

  it('steps down a plateau where a router does not say its size (RFC 1191 7.1)', () => {
    const { book: b } = book();
    expect(b.learn({ remote: FOUR, mtu: 0, ofBytes: 1500 })).toBe(true);
    expect(b.of(FOUR)).toBe(1492);
    expect(b.learn({ remote: FOUR, mtu: 0, ofBytes: 1492 })).toBe(true);
    expect(b.of(FOUR)).toBe(1006);
    expect(b.learn({ remote: FOUR, mtu: 0, ofBytes: 1006 })).toBe(false);
  });

  it('forgets ten minutes after it was last said', () => {
    const { book: b, clock } = book();
    b.learn({ remote: FOUR, mtu: 1400, ofBytes: 1500 });
    clock.advance(599_999);
    expect(b.expire()).toBe(false);
    b.learn({ remote: FOUR, mtu: 1400, ofBytes: 1500 });
    clock.advance(599_999);
    expect(b.expire()).toBe(false);
    clock.advance(1);
    expect(b.expire()).toBe(true);
    expect([b.of(FOUR), b.expire()]).toEqual([undefined, false]);
  });
});
