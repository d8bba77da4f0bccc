// SPDX-License-Identifier: Apache-2.0
/**
 * A node that is new, or takes new flows again, comes to its whole score in ten steps over `slowStart`. What is published is the only
 * memory, so any replica takes the next step. Pure.
 *
 * It does so only beside a node of its service that has taken new flows for as long as that: where all are new nobody can take what is held
 * back, and a service that starts is not slow. Steps only go up, so replicas whose clocks differ do not undo each other's. The wall clock
 * may be set: backwards, and the node goes on from the step that it is at; forwards, and it is there sooner.
 */
import type { ScoreValue } from '@detour/contracts';
import { roundScore } from './round-score.js';

export const STEPS = 10;

/** What a node is worth, whole. */
export interface WholeScore {
  readonly score: number;
  readonly otherZone: number | null;
  readonly fresh: boolean;
  readonly why: string;
}

interface Circumstances {
  readonly slowStartMs: number;
  /** Wall clock. */
  readonly nowMs: number;
  /** Another node of its service is established. */
  readonly established: boolean;
}

export interface Started {
  readonly value: Omit<ScoreValue, 'atMs'>;
  /** When the next step is due; null: none is. */
  readonly stepInMs: number | null;
}

export function startSlowly(
  wanted: WholeScore,
  published: ScoreValue | null,
  around: Circumstances,
): Started {
  const { score, otherZone, fresh, why } = wanted;
  if (!fresh || score === 0) return { value: { score, fresh, why, ...zoned(otherZone, 1) }, stepInMs: null };
  const { step, sinceMs } = stepOf(published, around);
  const { slowStartMs, nowMs } = around;
  if (step >= STEPS) return { value: { score, fresh, why, ...zoned(otherZone, 1), sinceMs }, stepInMs: null };
  const ramp = step / STEPS;
  const note = `starts slowly: ${step * 10} % of ${score}`;
  const value = {
    ...{ score: roundScore(score * ramp), fresh, sinceMs, ramp },
    ...zoned(otherZone, ramp),
    why: why === '' ? note : `${note}; ${why}`,
  };
  return { value, stepInMs: Math.max(1, Math.ceil(sinceMs + slowStartMs * ramp - nowMs)) };
}

/** Whether a published node has taken new flows, and all that are its due, for as long as a new one starts slowly. */
export function isEstablished(
  published: ScoreValue | null,
  { slowStartMs, nowMs }: Omit<Circumstances, 'established'>,
): boolean {
  if (published === null || !takesFlows(published) || published.ramp !== undefined) return false;
  return published.sinceMs === undefined || nowMs - published.sinceMs >= slowStartMs;
}

function stepOf(
  published: ScoreValue | null,
  { slowStartMs, nowMs, established }: Circumstances,
): { readonly step: number; readonly sinceMs: number } {
  if (published === null || !takesFlows(published))
    return { step: established && slowStartMs > 0 ? 1 : STEPS, sinceMs: nowMs };
  const { ramp, sinceMs = 0 } = published;
  if (ramp === undefined || slowStartMs === 0) return { step: STEPS, sinceMs };
  const before = Math.min(STEPS, Math.max(1, Math.round(ramp * STEPS)));
  // Replicas' clocks differ a little; beyond what a whole start takes, this one was set back.
  if (nowMs < sinceMs - slowStartMs)
    return { step: before, sinceMs: nowMs - (slowStartMs * (before - 1)) / STEPS };
  const reached = Math.floor(((nowMs - sinceMs) * STEPS) / slowStartMs) + 1;
  return { step: Math.min(STEPS, Math.max(before, reached)), sinceMs };
}

function takesFlows({ fresh, score }: ScoreValue): boolean {
  return fresh && score > 0;
}

function zoned(otherZone: number | null, ramp: number): { readonly otherZone?: number } {
  return otherZone === null ? {} : { otherZone: roundScore(otherZone * ramp) };
}
