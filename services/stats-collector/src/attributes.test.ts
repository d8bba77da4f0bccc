// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { MAX_AHEAD_MS, refuseTimestamp, siftAttributes } from './attributes.js';

describe('siftAttributes', () => {
  it('takes what is believed and refuses the rest by name', () => {
    const { values, refused } = siftAttributes([
      ['cpu', 0.9],
      ['connections', 1e12],
      ['memory', Number.NaN],
      ['loss', -0.1],
      ['capacity', 1e6],
      ['colour', 3],
    ]);
    expect([...values]).toEqual([['cpu', 0.9]]);
    expect(refused.map((text) => text.slice(0, text.indexOf(':')))).toEqual([
      'connections',
      'memory',
      'loss',
      'capacity',
      'colour',
    ]);
  });

  it('reads no more than its bound', () => {
    const { values, refused } = siftAttributes(Array.from({ length: 1000 }, () => ['cpu', 0.5] as const));
    expect(values.size).toBe(1);
    expect(refused).toEqual(['report: more than 64 attributes; the rest was not read']);
  });
});

describe('refuseTimestamp', () => {
  it('refuses the future beyond a clock difference', () => {
    expect(refuseTimestamp(1000 + MAX_AHEAD_MS, 1000)).toBeNull();
    expect(refuseTimestamp(1001 + MAX_AHEAD_MS, 1000)).toContain('in the future');
    expect(refuseTimestamp(Number.NaN, 1000)).toContain('no time');
  });
});
