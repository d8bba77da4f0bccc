// SPDX-License-Identifier: Apache-2.0
import { parseFrame } from '@detour/wire';
import { describe, expect, it } from 'vitest';
import { frameMaker, STACK_PORT } from './client-protocol.js';

describe('frameMaker', () => {
  it('makes intact packets, each flow its own', () => {
    const make = frameMaker('02:00:00:00:00:09', 4);
    const seen = [0, 1023, 1024, 99_999].map((flow) => parseFrame(Uint8Array.from(make(flow))));
    expect(seen.map((frame) => (frame.ok ? 'intact' : frame.why))).toEqual(Array(4).fill('intact'));
    const sources = [0, 1023, 1024, 99_999].map((flow) => {
      const frame = make(flow);
      return `${Buffer.from(frame.subarray(26, 30)).join('.')}:${(frame[34] ?? 0) * 256 + (frame[35] ?? 0)}`;
    });
    expect(sources).toEqual(['10.1.1.0:1024', '10.1.1.0:2047', '10.1.1.1:1024', '10.1.1.97:1695']);
    expect((make(5)[36] ?? 0) * 256 + (make(5)[37] ?? 0)).toBe(STACK_PORT);
  });
});
