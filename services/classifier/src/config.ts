// SPDX-License-Identifier: Apache-2.0
/** The classifier's own settings; it needs none beside the common ones (packages/runtime). */
import type { Settings } from '@detour/runtime';

export const SERVICE = 'classifier';
export const settings = {} as const satisfies Settings;
