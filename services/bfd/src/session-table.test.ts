// SPDX-License-Identifier: Apache-2.0
import type { BfdPacket } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { pathKey, SessionTable } from './session-table.js';

const packet = (yourDiscr: number): BfdPacket => ({
  diag: 0,
  state: 'down',
  poll: false,
  final: false,
  controlPlaneIndependent: false,
  demand: false,
  detectMult: 3,
  myDiscr: 9,
  yourDiscr,
  desiredMinTxUs: 1,
  requiredMinRxUs: 1,
  requiredMinEchoRxUs: 0,
});
const red = pathKey(3, 'a9fe0102');
const blue = pathKey(4, 'a9fe0102');

describe('SessionTable', () => {
  const table = new SessionTable();
  table.put({ id: 'red', localDiscr: 1, path: red });
  table.put({ id: 'blue', localDiscr: 2, path: blue });
  table.put({ id: 'later', localDiscr: 3, path: null });

  it('finds by discriminator, and by device and peer where equal addresses live in two VRFs', () => {
    expect(table.find(packet(1), { hops: 'single' as const, ttl: 255, path: red })).toEqual({
      ok: true,
      id: 'red',
    });
    expect(table.find(packet(0), { hops: 'single' as const, ttl: 255, path: blue })).toEqual({
      ok: true,
      id: 'blue',
    });
  });

  it.each([
    ['ttl-not-255', packet(1), { hops: 'single' as const, ttl: 254, path: red }],
    ['no-session-with-discriminator', packet(77), { hops: 'single' as const, ttl: 255, path: red }],
    ['wrong-path', packet(1), { hops: 'single' as const, ttl: 255, path: blue }],
    ['wrong-path', packet(3), { hops: 'single' as const, ttl: 255, path: red }],
    ['no-session-with-peer', packet(0), { hops: 'single' as const, ttl: 255, path: pathKey(5, 'a9fe0102') }],
  ])('refuses %s', (why, got, arrival) => {
    expect(table.find(got, arrival)).toMatchObject({ ok: false, why });
  });

  it('moves and removes', () => {
    table.put({ id: 'red', localDiscr: 1, path: null });
    expect(table.find(packet(0), { hops: 'single' as const, ttl: 255, path: red })).toMatchObject({
      ok: false,
    });
    table.put({ id: 'red', localDiscr: 1, path: red });
    table.remove(1);
    expect(table.find(packet(0), { hops: 'single' as const, ttl: 255, path: red })).toMatchObject({
      ok: false,
    });
    expect(table.find(packet(1), { hops: 'single' as const, ttl: 255, path: red })).toMatchObject({
      ok: false,
    });
    expect(table.hasDiscr(2)).toBe(true);
  });
});
