// SPDX-License-Identifier: Apache-2.0
import type { ScoreValue } from '@detour/contracts';
import { describe, expect, it } from 'vitest';
import { nextScore } from './next-score.js';
import { isEstablished, startSlowly } from './slow-start.js';

const SLOW_MS = 30_000;
const whole = { score: 80, otherZone: null, fresh: true, why: '' };
/** A peer that has taken flows since before slow starts were counted. */
const OLD = { score: 5, fresh: true, why: '', atMs: 0 };
const silent = { score: 0, otherZone: null, fresh: false, why: 'silent' };
const around = (nowMs: number, established = true) => ({ slowStartMs: SLOW_MS, nowMs, established });

/** Publishes as the publisher does, at a clock that is turned by hand; answers what was written. */
class Published {
  value: ScoreValue | null = null;
  writes: number[] = [];
  step(nowMs: number, wanted = whole, established = true) {
    const { value, stepInMs, reason } = nextScore(
      { ...wanted, slowStartMs: SLOW_MS, hysteresis: 0.1 },
      this.value,
      { peers: [null, established ? OLD : null], nowMs },
    );
    if (reason !== null) {
      this.value = { ...value, atMs: nowMs };
      this.writes.push(value.score);
    }
    return stepInMs;
  }
}

describe('startSlowly', () => {
  it('brings a new node to its whole score in ten steps over slowStart, each when it is due', () => {
    const node = new Published();
    let nowMs = 1_000_000;
    for (let due = node.step(nowMs); due !== null; due = node.step(nowMs)) nowMs += due;
    expect(node.writes).toEqual([8, 16, 24, 32, 40, 48, 56, 64, 72, 80]);
    expect(nowMs - 1_000_000).toBe(27_000);
    expect(node.value).toEqual({ score: 80, fresh: true, why: '', sinceMs: 1_000_000, atMs: nowMs });
  });

  it('gives it all at once where no other node of its service is established, or slowStart is 0', () => {
    expect(startSlowly(whole, null, around(5, false)).value.score).toBe(80);
    expect(startSlowly(whole, null, { slowStartMs: 0, nowMs: 5, established: true }).value.score).toBe(80);
  });

  it('begins again for a node that took no new flows meanwhile', () => {
    const node = new Published();
    node.step(0, whole, false);
    node.step(100_000, silent);
    expect(node.value).toMatchObject({ score: 0, fresh: false });
    expect(node.value?.sinceMs).toBeUndefined();
    node.step(200_000);
    expect(node.value).toMatchObject({ score: 8, ramp: 0.1, sinceMs: 200_000 });
  });

  it('lets two replicas whose clocks differ take each step once', () => {
    const node = new Published();
    for (let ms = 1_000_000; ms <= 1_040_000; ms += 100) {
      node.step(ms);
      node.step(ms - 1_500);
    }
    expect(node.writes).toEqual([8, 16, 24, 32, 40, 48, 56, 64, 72, 80]);
  });

  it('goes on from its step when the clock is set back by a day, and is there at once when it is set forward', () => {
    const node = new Published();
    node.step(100_000_000);
    node.step(100_009_000);
    expect(node.value?.ramp).toBe(0.4);
    const back = 100_009_000 - 86_400_000;
    node.step(back);
    expect(node.value?.ramp).toBe(0.4);
    node.step(back + 3_000);
    expect(node.value?.ramp).toBe(0.5);
    node.step(back + 86_400_000);
    expect(node.value).toMatchObject({ score: 80 });
    expect(node.value?.ramp).toBeUndefined();
  });

  it('lowers what gateways of other zones are told by the same share', () => {
    const { value } = startSlowly({ ...whole, otherZone: 40 }, null, around(0));
    expect(value).toMatchObject({ score: 8, otherZone: 4 });
  });
});

describe('isEstablished', () => {
  const value = { score: 5, fresh: true, why: '', atMs: 0 };
  const at = { slowStartMs: SLOW_MS, nowMs: 40_000 };
  it.each([
    [{ ...value, sinceMs: 10_000 }, true],
    [{ ...value, sinceMs: 10_001 }, false],
    [{ ...value, sinceMs: 0, ramp: 0.9 }, false],
    [{ ...value, score: 0 }, false],
    [{ ...value, fresh: false }, false],
    [value, true],
    [null, false],
  ])('%j: %s', (published, expected) => {
    expect(isEstablished(published, at)).toBe(expected);
  });
});
