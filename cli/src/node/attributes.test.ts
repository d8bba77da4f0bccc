// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { attributesOf, parseCpu, parseMemory, type Readings, readMachine } from './attributes.js';

const STAT =
  'cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 50 0 25 400 25 0 0 0 0 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 1\n';

describe('what a node measures of itself', () => {
  it('is read from /proc', () => {
    expect(parseCpu(STAT)).toEqual({ cpu: { busy: 150, all: 1000 }, cores: 2 });
    expect(parseCpu('')).toEqual({ cpu: null, cores: 0 });
    expect(parseMemory('MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n')).toEqual({
      available: 256_000,
      total: 1_024_000,
    });
    expect(parseMemory('nonsense')).toBeNull();
  });

  it('is shares and rates between two readings; what the machine lacks is left out', () => {
    const before: Readings = {
      ...parseCpu(STAT),
      memory: { available: 250, total: 1000 },
      connections: null,
      uptime: 7,
    };
    const now = { ...before, cpu: { busy: 250, all: 1200 } };
    expect(attributesOf(before, now, { bytes: 1000, elapsedMs: 500 })).toEqual({
      cpu: 0.5,
      memory: 0.75,
      memoryBytes: 1000,
      cores: 2,
      uptime: 7,
      bytesPerSecond: 2000,
    });
    expect(attributesOf(before, before, { bytes: 0, elapsedMs: 0 })).not.toHaveProperty('cpu');
  });

  it('is there on this machine', () => {
    const here = readMachine();
    expect(here.cores).toBeGreaterThan(0);
    expect(here.memory?.total).toBeGreaterThan(0);
    expect(here.uptime).toBeGreaterThan(0);
  });
});
