// SPDX-License-Identifier: Apache-2.0
// The step by which a published score follows what its node is worth: slow start, then hysteresis. What is published is the only memory. Pure.
import type { ScoreValue } from '@detour/contracts';
import { reasonToPublish } from './hysteresis.js';
import { isEstablished, startSlowly, type WholeScore } from './slow-start.js';

/** How a node's score may change. */
export interface ScoreSteps {
  /** Over how long a node that is new, or takes new flows again, comes to its whole share. */
  readonly slowStartMs: number;
  /** Share of the published score by which a new one must differ. */
  readonly hysteresis: number;
}

export interface NextScore {
  /** What would be published now. */
  readonly value: Omit<ScoreValue, 'atMs'>;
  /** Why it is to be published; null: what is published stays. */
  readonly reason: string | null;
  /** When to ask again although nothing changed, for the next step of a slow start; null: need not. */
  readonly stepInMs: number | null;
}

/** `peers`: what is published of the other nodes of its service. `nowMs`: wall clock. */
export function nextScore(
  wanted: WholeScore & ScoreSteps,
  published: ScoreValue | null,
  { peers, nowMs }: { readonly peers: Iterable<ScoreValue | null>; readonly nowMs: number },
): NextScore {
  const { slowStartMs, hysteresis } = wanted;
  let established = false;
  for (const peer of peers) {
    established = isEstablished(peer, { slowStartMs, nowMs });
    if (established) break;
  }
  const { value, stepInMs } = startSlowly(wanted, published, { slowStartMs, nowMs, established });
  return { value, stepInMs, reason: reasonToPublish(published, value, hysteresis) };
}
