// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { quantile, summarise } from './statistics.js';

describe('statistics', () => {
  it('finds quantiles of unsorted samples', () => {
    expect(quantile([5, 1, 3], 0.5)).toBe(3);
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([7], 0.99)).toBe(7);
  });

  it('says the spread as a share of the median', () => {
    expect(summarise([90, 100, 110])).toEqual({ median: 100, spread: 0.05, runs: 3 });
  });

  it('refuses to summarise nothing', () => {
    expect(() => summarise([])).toThrow(RangeError);
  });
});
