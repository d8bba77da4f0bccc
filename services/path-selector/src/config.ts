// SPDX-License-Identifier: Apache-2.0
/** The path-selector's own settings. */
import { durationMs, type Settings } from '@detour/runtime';

export const SERVICE = 'path-selector';
export const settings = {
  /** How long Redis may take for one flow before the choice stands unrecorded; gateways wait 20 ms for the whole answer. */
  redisBudgetMs: durationMs('DETOUR_REDIS_BUDGET', { default: '8ms', minMs: 1, maxMs: 1_000 }),
  /** How long changes of scores and drains are gathered into one table. */
  coalesceMs: durationMs('DETOUR_COALESCE', { default: '3ms', minMs: 0, maxMs: 1_000 }),
} as const satisfies Settings;
