// SPDX-License-Identifier: Apache-2.0
/** The stats-collector's own settings; it needs none beside the common ones (packages/runtime). */
import type { Settings } from '@detour/runtime';

export const SERVICE = 'stats-collector';
export const settings = {} as const satisfies Settings;
