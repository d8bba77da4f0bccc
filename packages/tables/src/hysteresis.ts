// SPDX-License-Identifier: Apache-2.0
/** When a new score replaces the published one. The published score itself is the only memory, so replicas need no leader. Pure. */

/** The part of a published score that decides. */
export interface Published {
  readonly score: number;
  readonly fresh: boolean;
  readonly otherZone?: number;
  readonly ramp?: number;
  readonly sinceMs?: number;
}

/** Why the new score is to be published; null when it is to be left as it is. `threshold` is a share of the published score, e.g. 0.1. */
export function reasonToPublish(
  published: Published | null,
  next: Published,
  threshold: number,
): string | null {
  if (published === null) return 'nothing is published';
  if (published.fresh !== next.fresh) return next.fresh ? 'fresh again' : 'no longer fresh';
  if ((published.score === 0) !== (next.score === 0)) return 'crosses 0';
  if (published.ramp !== next.ramp) return 'starts slowly';
  if (next.ramp !== undefined && (next.sinceMs ?? 0) < (published.sinceMs ?? 0))
    return 'the clock was set back';
  const farBefore = published.otherZone ?? published.score;
  const far = next.otherZone ?? next.score;
  for (const [before, now] of [[published.score, next.score] as const, [farBefore, far] as const]) {
    const change = Math.abs(now - before);
    if (change > threshold * before)
      return `differs from ${before} by more than ${Number((threshold * 100).toFixed(4))} %`;
  }
  return null;
}
