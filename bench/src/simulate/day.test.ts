// SPDX-License-Identifier: Apache-2.0
import { beforeAll, describe, expect, it } from 'vitest';
import { Day } from './day.js';
import type { TableInForce } from './gateway-tables.js';
import { SIZES } from './sizes.js';

const size = SIZES.tiny;
const SEED = 3;

/** Slots by path, counted one by one. */
function shares({ members, expanded }: TableInForce): { path: number; slots: number; share: number }[] {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  return members.map(({ path, weight }) => ({
    path,
    slots: [...expanded.slots].filter((slot) => slot === path).length / expanded.slots.length,
    share: weight / total,
  }));
}

describe('a simulated day', () => {
  const day = new Day(size, SEED);
  const seen: { tables: readonly TableInForce[]; paths: Uint16Array; live: number[] }[] = [];
  beforeAll(() => {
    while (!day.isOver) {
      day.step();
      const { paths, liveByPath } = day.flows;
      seen.push({ tables: day.tables.inForce, paths: paths.slice(), live: [...liveByPath] });
    }
  });

  it('goes through what was to happen', () => {
    expect(day.samples.map(({ atMs }) => atMs / size.stepMs)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(day.failures.map(({ name }) => name)).toEqual(['a rack', 'a node', 'a node', 'a node']);
    expect(day.samples.every(({ published }) => published > 0)).toBe(true);
  });

  it('moves the flows of nodes that go down, all of them, and no other', () => {
    for (const { pins, flows } of day.failures) expect(pins).toEqual({ ofDown: flows, others: 0 });
    for (const { pins } of day.samples) expect(pins.others).toBe(0);
    expect(day.failures[0]?.flows).toBeGreaterThan(size.flows / 20);
  });

  it('counts the flows of each path as they are', () => {
    for (const { paths, live } of seen) {
      expect(live).toEqual(live.map((_, path) => paths.filter((one) => one === path).length));
      expect(live.reduce((sum, count) => sum + count, 0)).toBe(size.flows);
    }
  });

  it('says of tables what counting their slots one by one says', () => {
    for (const [i, { tables }] of seen.entries()) {
      const sample = day.samples[i];
      const due = tables.map((table) => shares(table).filter(({ share }) => share > 0));
      const over = due.flat().map(({ slots, share }) => slots / share - 1);
      expect(sample?.overPathFew).toBeCloseTo(Math.max(...over), 9);
      const flows = tables.map(({ chain }) => chain.flows);
      const parts = due.map((list) =>
        list.reduce((sum, { slots, share }) => sum + Math.max(0, slots - share), 0),
      );
      const mean = parts.reduce((sum, part, at) => sum + part * (flows[at] ?? 0), 0) / size.flows;
      expect(sample?.misplaced).toBeCloseTo(mean, 9);
      expect(sample?.bytes).toBe(tables.reduce((sum, { expanded }) => sum + 2 * expanded.slots.length, 0));
      expect(sample?.moved).toBeGreaterThanOrEqual((sample?.least ?? 0) - 0.01);
    }
  });

  it('has no slot lead over a node that is down or drained', () => {
    const drain = size.mishaps.find(({ what }) => what === 'drain');
    const step = seen[Math.ceil((drain?.fromMs ?? 0) / size.stepMs) - 1];
    const drained = new Set(day.world.racks[drain?.racks[0] ?? -1]);
    const led = new Set(step?.tables.flatMap(({ expanded }) => [...expanded.slots]));
    const paths = day.world.chains.flatMap((chain) => chain.paths);
    const over = paths.filter(({ number }) => led.has(number)).flatMap(({ nodes }) => nodes);
    expect(over.length).toBeGreaterThan(0);
    expect(over.filter((node) => drained.has(node))).toEqual([]);
  });

  it('is the same day again from the same seed, and another from another', () => {
    const run = (seed: number) => {
      const other = new Day(size, seed);
      while (!other.isOver) other.step();
      return JSON.stringify([other.samples, other.failures], (key, value) => (key === 'buildMs' ? 0 : value));
    };
    const again = run(SEED);
    expect(again).toBe(
      JSON.stringify([day.samples, day.failures], (key, value) => (key === 'buildMs' ? 0 : value)),
    );
    expect(run(SEED + 1)).not.toBe(again);
  });
});
