// SPDX-License-Identifier: Apache-2.0
import { Fault } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { commonSettings } from './common-settings.js';
import { durationMs, flag, hostPort, integer, list, path, ratio, readSettings, text } from './settings.js';

const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault && error.code === 'invalid') return error.detail;
    throw error;
  }
  throw new Error('was accepted');
};

describe('readSettings', () => {
  const settings = {
    name: text('D_NAME', { pattern: /^[a-z]+$/ }),
    mode: text('D_MODE', { default: 'fast', oneOf: ['fast', 'exact'] }),
    count: integer('D_COUNT', { default: '5', min: 1, max: 9 }),
    on: flag('D_ON', { default: 'false' }),
    waitMs: durationMs('D_WAIT', { default: '20ms', maxMs: 60_000 }),
    listen: hostPort('D_LISTEN', { default: '127.0.0.1:0' }),
    servers: list('D_SERVERS', { default: 'a:1', pattern: /^[a-z]:\d$/ }),
    dir: path('D_DIR', { default: '/run/x' }),
    share: ratio('D_SHARE', { default: '0.25' }),
  };

  it('takes defaults and given values, typed and frozen', () => {
    const values = readSettings(settings, {
      D_NAME: 'x',
      D_WAIT: '1.5s',
      D_LISTEN: '[::1]:70',
      D_SERVERS: 'a:1, b:2',
    });
    expect(values).toEqual({
      name: 'x',
      mode: 'fast',
      count: 5,
      on: false,
      waitMs: 1_500,
      listen: { host: '::1', port: 70 },
      servers: ['a:1', 'b:2'],
      dir: '/run/x',
      share: 0.25,
    });
    expect(Object.isFrozen(values) && Object.isFrozen(values.listen) && Object.isFrozen(values.servers)).toBe(
      true,
    );
  });

  it('reports every problem at once, with the variable and the value', () => {
    const told = refusal(() =>
      readSettings(settings, {
        D_MODE: 'slow',
        D_COUNT: '10',
        D_ON: 'maybe',
        D_LISTEN: 'x',
        D_WAIT: '20',
        D_DIR: 'a',
      }),
    );
    expect(told.split('\n')).toEqual([
      'D_NAME is not set: it has no default',
      'D_MODE="slow" is refused: give one of fast, exact',
      'D_COUNT="10" is refused: give a whole number from 1 to 9',
      'D_ON="maybe" is refused: give true or false',
      'D_WAIT="20" is refused: give a duration with its unit from 0ms to 60000ms, such as 20ms or 5s',
      'D_LISTEN="x" is refused: give host:port, such as 127.0.0.1:7000 or [::1]:7000',
      'D_DIR="a" is refused: give an absolute path',
    ]);
  });

  it.each([
    ['D_COUNT', ''],
    ['D_COUNT', '0x5'],
    ['D_COUNT', '5.0'],
    ['D_COUNT', ' 5'],
    ['D_LISTEN', '127.0.0.1:65536'],
    ['D_LISTEN', '::1:70'],
    ['D_SERVERS', ''],
    ['D_SERVERS', 'a:1,,b:2'],
    ['D_SHARE', '1.5'],
    ['D_SHARE', 'NaN'],
    ['D_WAIT', '61s'],
    ['D_NAME', ''],
    ['D_NAME', 'A'],
  ])('refuses %s=%j', (variable, value) => {
    expect(refusal(() => readSettings(settings, { D_NAME: 'x', [variable]: value }))).toContain(variable);
  });
});

describe('commonSettings', () => {
  it('has a default for everything, and another instance name each time', () => {
    const first = readSettings(commonSettings(), {});
    expect(first.nats).toEqual(['nats://127.0.0.1:4222']);
    expect(first.redis).toBe('redis://127.0.0.1:6379');
    expect(readSettings(commonSettings(), {}).instance).not.toBe(first.instance);
  });
  it('takes a unix socket for Redis, and refuses an instance with a dot', () => {
    expect(readSettings(commonSettings(), { DETOUR_REDIS: 'unix:/run/r.sock' }).redis).toBe(
      'unix:/run/r.sock',
    );
    const cluster = 'redis+cluster://:pw@a:1,b:2';
    expect(readSettings(commonSettings(), { DETOUR_REDIS: cluster }).redis).toBe(cluster);
    const refused = refusal(() =>
      readSettings(commonSettings(), { DETOUR_REDIS: 'redis+sentinel://:pw@a:1' }),
    );
    expect(refused).toMatch(/DETOUR_REDIS is refused: give the name of the master/);
    expect(refused).not.toContain('pw');
    expect(refusal(() => readSettings(commonSettings(), { DETOUR_INSTANCE: 'a.b' }))).toContain(
      'DETOUR_INSTANCE',
    );
  });
});
