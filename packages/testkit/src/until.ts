// SPDX-License-Identifier: Apache-2.0
// Waiting by polling with a deadline: the only way in which tests wait.

export interface UntilOptions {
  /** Milliseconds until it gives up (default 5000). */
  readonly timeoutMs?: number;
  /** Milliseconds between polls (default 10). */
  readonly everyMs?: number;
  /** What is waited for; named in the error. */
  readonly what?: string;
}

/**
 * Polls `probe` until it answers something other than `false`, `null` or `undefined`, and returns that answer. A probe that throws
 * counts as "not yet"; its last error is the cause of the final one.
 */
export async function until<T>(
  probe: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const { timeoutMs = 5_000, everyMs = 10, what = probe.toString().slice(0, 120) } = options;
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== false && answer !== null && answer !== undefined) {
        return answer as Exclude<T, false | null | undefined>;
      }
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) {
      throw new Error(
        `not within ${timeoutMs} ms: ${what}`,
        last === undefined ? undefined : { cause: last },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
