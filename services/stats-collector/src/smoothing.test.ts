// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Smoother, smooth } from './smoothing.js';

const TIME_MS = 10_000;

describe('smooth', () => {
  it('follows a lasting change by 63 % in its time constant, however often it is sampled, and arrives', () => {
    for (const everyMs of [100, 500, 2_500, 10_000]) {
      let value = 0;
      for (let ms = everyMs; ms <= TIME_MS; ms += everyMs)
        value = smooth(value, { sample: 1, elapsedMs: everyMs, timeMs: TIME_MS });
      expect(value).toBeCloseTo(1 - Math.exp(-1), 10);
      for (let ms = 0; ms <= 7 * TIME_MS; ms += everyMs)
        value = smooth(value, { sample: 1, elapsedMs: everyMs, timeMs: TIME_MS });
      expect(value).toBe(1);
    }
  });

  it('stays between what was and what is, and takes the sample as it is where nothing is smoothed', () => {
    const amount = fc.double({ min: 0, max: 1e9, noNaN: true });
    fc.assert(
      fc.property(amount, amount, fc.integer({ min: -5_000, max: 100_000 }), (before, sample, elapsedMs) => {
        const after = smooth(before, { sample, elapsedMs, timeMs: TIME_MS });
        expect(after).toBeGreaterThanOrEqual(Math.min(before, sample));
        expect(after).toBeLessThanOrEqual(Math.max(before, sample));
        expect(smooth(before, { sample, elapsedMs, timeMs: 0 })).toBe(sample);
      }),
    );
  });
});

describe('Smoother', () => {
  it('begins with the first sample, and anew after it was forgotten', () => {
    const smoother = new Smoother(TIME_MS);
    smoother.take('cpu', 0.5, 0);
    expect(smoother.of('cpu')).toBe(0.5);
    smoother.take('cpu', 1, TIME_MS);
    expect(smoother.of('cpu')).toBeCloseTo(1 - 0.5 * Math.exp(-1), 10);
    smoother.forget('cpu');
    smoother.take('cpu', 0.1, TIME_MS + 1);
    expect(smoother.of('cpu')).toBe(0.1);
  });

  it('goes on from what was published, whose age is nobody to be asked about: the first sample only begins time', () => {
    const smoother = new Smoother(TIME_MS);
    smoother.adopt({ cpu: 0.2, nonsense: 7 });
    expect(smoother.names()).toEqual(['cpu']);
    smoother.take('cpu', 1, 500_000);
    expect(smoother.of('cpu')).toBe(0.2);
    smoother.take('cpu', 1, 500_000 + TIME_MS);
    expect(smoother.of('cpu')).toBeCloseTo(1 - 0.8 * Math.exp(-1), 10);
  });

  it('keeps its time when another replica published meanwhile', () => {
    const smoother = new Smoother(TIME_MS);
    smoother.take('cpu', 0, 0);
    smoother.adopt({ cpu: 0.4 });
    smoother.take('cpu', 0.4, 1_000);
    expect(smoother.of('cpu')).toBe(0.4);
  });

  it('remembers nothing where nothing is smoothed', () => {
    const smoother = new Smoother(0);
    smoother.take('cpu', 0.5, 0);
    smoother.adopt({ cpu: 0.4 });
    expect(smoother.of('cpu')).toBeUndefined();
  });
});
