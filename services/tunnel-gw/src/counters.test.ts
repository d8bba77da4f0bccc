// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { agoMs } from './counters.js';

describe('agoMs', () => {
  it('is never negative: a packet may be noted after the reading began', () => {
    const now = process.hrtime.bigint();
    expect(agoMs(now + 60_000_000_000n)).toBe(0n);
    expect(agoMs(now - 5_000_000_000n)).toBeGreaterThanOrEqual(5_000n);
  });
});
