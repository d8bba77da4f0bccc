// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeNeighbourRoom } from './devices.js';

describe('makeNeighbourRoom', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'detour-sysctl-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));
  const place = (family: string) => join(dir, `net/${family}/neigh/default`);
  const limits = (family: string) =>
    [1, 2, 3].map((n) => Number(readFileSync(join(place(family), `gc_thresh${n}`), 'utf8')));
  const set = (family: string, values: readonly number[]) => {
    mkdirSync(place(family), { recursive: true });
    for (const [i, value] of values.entries())
      writeFileSync(join(place(family), `gc_thresh${i + 1}`), `${value}\n`);
  };

  it('raises what is too small, and lowers nothing', () => {
    set('ipv4', [128, 512, 1_024]);
    set('ipv6', [128, 16_384, 65_536]);
    makeNeighbourRoom(4_000, dir);
    expect(limits('ipv4')).toEqual([5_024, 5_024, 5_024]);
    expect(limits('ipv6')).toEqual([5_024, 16_384, 65_536]);
  });

  it('leaves a namespace alone that has no such settings', () => {
    expect(() => makeNeighbourRoom(4_000, dir)).not.toThrow();
  });
});
