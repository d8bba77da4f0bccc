// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { warmUp } from './warm-up.js';

describe('warmUp', () => {
  it('runs through all of its rounds, and stops early where they take too long', () => {
    let looks = 0;
    warmUp(() => 0.1 * ++looks);
    expect(looks).toBeGreaterThan(100);
    looks = 0;
    expect(warmUp(() => 100 * ++looks).lastMs).toBe(100);
    expect(looks).toBeLessThan(10);
  });
});
