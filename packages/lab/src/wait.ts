// SPDX-License-Identifier: Apache-2.0
/** Polls until something holds, with a deadline. */
import { setTimeout as delay } from 'node:timers/promises';
import { Fault } from '@detour/core';

export interface WaitOptions {
  /** Completes the sentence "waited … for". */
  readonly what: string;
  /** Default 10,000. */
  readonly timeoutMs?: number;
  /** Default 10. */
  readonly everyMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * @param check returns what was waited for, or undefined (or false) to go on waiting; what it throws ends the wait.
 * @throws Fault `timeout` when the deadline passes.
 */
export async function waitFor<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  options: WaitOptions,
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (performance.now() >= deadline)
      throw new Fault('timeout', `waited ${timeoutMs} ms for ${options.what}`);
    await delay(options.everyMs ?? 10, undefined, options.signal ? { signal: options.signal } : {});
  }
}
