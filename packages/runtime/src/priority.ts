// SPDX-License-Identifier: Apache-2.0
// Puts the main thread before other processes, so that a detected failure is passed on at once on a busy machine, too.

import { constants, setPriority } from 'node:os';

/** Raises the priority of the calling process's main thread; false where the right (CAP_SYS_NICE) is missing. */
export function raisePriority(): boolean {
  try {
    setPriority(constants.priority.PRIORITY_HIGHEST);
    return true;
  } catch (error) {
    const code = (error as { readonly info?: { readonly code?: string } }).info?.code;
    if (code === 'EACCES' || code === 'EPERM') return false;
    throw error;
  }
}
