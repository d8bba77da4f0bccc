// SPDX-License-Identifier: Apache-2.0
// How long a server keeps a stream, so that gateways spread again over replicas that came later.

export const STREAM_LIFE_MS = 600_000;

/** `lifeMs` ± 20 %. */
export function jitterLife(lifeMs: number): number {
  return lifeMs * (0.8 + 0.4 * Math.random());
}
