// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { clockAhead } from './shifted-clock.js';

const HOUR_MS = 3_600_000;
const PROGRAM = 'console.log(JSON.stringify([Date.now(), Number(process.hrtime.bigint() / 1000000n)]))';

it.each([1, -1])(
  'a process whose wall clock is %i h ahead has the time that passes in common with others',
  (hours) => {
    const env = { ...process.env, ...clockAhead(hours * 3_600) };
    const beganMs = Number(process.hrtime.bigint() / 1_000_000n);
    const [wallMs, monoMs] = JSON.parse(
      execFileSync(process.execPath, ['-e', PROGRAM], { env, encoding: 'utf8' }),
    ) as [number, number];
    const tookMs = Number(process.hrtime.bigint() / 1_000_000n) - beganMs + 1;
    expect(Math.abs(wallMs - Date.now() - hours * HOUR_MS)).toBeLessThanOrEqual(tookMs);
    expect(monoMs).toBeGreaterThanOrEqual(beganMs);
    expect(monoMs - beganMs).toBeLessThanOrEqual(tookMs);
  },
);
