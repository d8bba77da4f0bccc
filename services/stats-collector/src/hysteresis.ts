// SPDX-License-Identifier: Apache-2.0
/** When a new score replaces the published one. The published score itself is the only memory, so replicas need no leader. Pure. */

/** The part of a published score that decides. */
export interface Published {
  readonly score: number;
  readonly fresh: boolean;
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
  const change = Math.abs(next.score - published.score);
  if (change > threshold * published.score)
    return `differs from ${published.score} by more than ${Number((threshold * 100).toFixed(4))} %`;
  return null;
}
