// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { reasonToPublish } from './hysteresis.js';

const fresh = (score: number) => ({ score, fresh: true });

describe('reasonToPublish', () => {
  it('leaves a score that oscillates by 5 % after it was published once', () => {
    let published: { score: number; fresh: boolean } | null = null;
    let times = 0;
    for (let i = 0; i < 600; i++) {
      const next = fresh(100 * (i % 2 === 0 ? 1.05 : 0.95));
      if (reasonToPublish(published, next, 0.1) === null) continue;
      published = next;
      times++;
    }
    expect(times).toBe(1);
  });

  it('publishes what differs by more than the threshold of the published score', () => {
    expect(reasonToPublish(fresh(100), fresh(110), 0.1)).toBeNull();
    expect(reasonToPublish(fresh(100), fresh(110.1), 0.1)).toContain('more than 10 %');
    expect(reasonToPublish(fresh(100), fresh(89.9), 0.1)).toContain('more than 10 %');
    expect(reasonToPublish(fresh(100), fresh(100), 0)).toBeNull();
  });

  it('publishes at once when a score crosses 0 or its freshness changes', () => {
    expect(reasonToPublish(fresh(0), fresh(0.001), 1)).toBe('crosses 0');
    expect(reasonToPublish(fresh(0.001), fresh(0), 1)).toBe('crosses 0');
    expect(reasonToPublish(fresh(0), { score: 0, fresh: false }, 1)).toBe('no longer fresh');
    expect(reasonToPublish({ score: 0, fresh: false }, fresh(0), 1)).toBe('fresh again');
    expect(reasonToPublish({ score: 0, fresh: false }, { score: 0, fresh: false }, 0.1)).toBeNull();
  });
});
