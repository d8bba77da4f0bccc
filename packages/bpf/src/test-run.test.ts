// SPDX-License-Identifier: Apache-2.0
import { afterAll, describe, expect, it } from 'vitest';
import { openObject, progTestRun, progTestRunAsync } from './index.js';
import { compileTestObjects } from './testdata.js';

const objects = compileTestObjects('basic');
const object = openObject(objects.object('basic'));
afterAll(() => {
  object.close();
  objects[Symbol.dispose]();
});

describe('progTestRun', () => {
  const frame = Uint8Array.from({ length: 60 }, (_, i) => i);

  it('returns the verdict and the frame as the program left it', () => {
    const result = progTestRun(object.program('swap'), { data: frame });
    expect(result.retval).toBe(3);
    expect([...result.data]).toEqual([1, 0, ...frame.subarray(2)]);
    expect(frame[0]).toBe(0);
  });

  it('repeats and measures', () => {
    const result = progTestRun(object.program('swap'), { data: frame, repeat: 1001 });
    expect(result.data[0]).toBe(1);
    expect(result.durationNs).toBeGreaterThan(0);
  });

  it('runs on another thread', async () => {
    const results = await Promise.all(
      [1, 2, 3].map(() => progTestRunAsync(object.program('swap'), { data: frame, repeat: 1000 })),
    );
    expect(results.map((r) => r.data[0])).toEqual([0, 0, 0]);
  });

  it('names what was wrong', async () => {
    const swap = object.program('swap');
    expect(() => progTestRun(swap, { data: new Uint8Array(5) })).toThrow(
      /test run of swap on 5 bytes: EINVAL.*14 to/,
    );
    expect(() => progTestRun(swap, { data: frame, outSize: 10 })).toThrow(/ENOSPC.*outSize, 10 bytes/);
    expect(() => progTestRun(swap, { data: frame, ctx: { ifindex: 999_999 } })).toThrow(
      /from ifindex 999999: ENODEV/,
    );
    await expect(progTestRunAsync(swap, { data: new Uint8Array(5) })).rejects.toThrow(/EINVAL/);
  });
});
