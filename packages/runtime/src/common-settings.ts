// SPDX-License-Identifier: Apache-2.0
// The settings that every service has.
import { randomBytes } from 'node:crypto';
import { durationMs, hostPort, list, path, ratio, redisUrl, type SettingValues, text } from './settings.js';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

/** Common settings; an instance that was not named gets a random short name. */
export function commonSettings() {
  return {
    nats: list('DETOUR_NATS', { default: 'nats://127.0.0.1:4222', pattern: /^(nats|tls):\/\/[^\s,]+$/ }),
    redis: redisUrl('DETOUR_REDIS', { default: 'redis://127.0.0.1:6379' }),
    listen: hostPort('DETOUR_LISTEN', { default: '127.0.0.1:0' }),
    metrics: hostPort('DETOUR_METRICS', { default: '127.0.0.1:0' }),
    instance: text('DETOUR_INSTANCE', {
      default: randomBytes(4).toString('hex'),
      pattern: /^[a-z0-9][a-z0-9-]{0,62}$/,
    }),
    gateway: text('DETOUR_GATEWAY', { default: '', pattern: /^[a-z0-9][a-z0-9-]{0,62}$/ }),
    runDir: path('DETOUR_RUN_DIR', { default: '/run/detour' }),
    otlp: text('DETOUR_OTLP', { default: '', pattern: /^https?:\/\/[^\s]+$/ }),
    traceRatio: ratio('DETOUR_TRACE_RATIO', { default: '0.01' }),
    logLevel: text('DETOUR_LOG', { default: 'info', oneOf: LOG_LEVELS }),
    stopWithinMs: durationMs('DETOUR_STOP_WITHIN', { default: '10s', minMs: 100 }),
  } as const;
}
export type CommonConfig = SettingValues<ReturnType<typeof commonSettings>>;
