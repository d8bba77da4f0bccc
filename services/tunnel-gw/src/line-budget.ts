// SPDX-License-Identifier: Apache-2.0
// How many lines the flow log may take: so many a second on average, and what matters more is let in when what matters less no longer is.

/** Of lines, by how soon they give way: an `opening` is the end of a flow that was nothing but its first packets, as a flood's are. */
export const LINE_KINDS = ['end', 'start', 'change', 'opening'] as const;
export type LineKind = (typeof LINE_KINDS)[number];

/** A sweep writes all its lines at once, and on a large table there may be seconds between two. */
const BURST_S = 10;
/** The share of the burst that a line leaves to those that matter more; the end of a flow says all that its start did. */
const LEAVES: Readonly<Record<LineKind, number>> = { end: 0, start: 0.25, change: 0.25, opening: 0.5 };

export class LineBudget {
  /** How many lines of each kind found no room. */
  readonly leftOut: Record<LineKind, number> = { end: 0, start: 0, change: 0, opening: 0 };
  private readonly most: number;
  private tokens: number;
  private atMs: number;

  constructor(
    private readonly perS: number,
    private readonly monoMs: () => number,
  ) {
    this.most = perS * BURST_S;
    this.tokens = this.most;
    this.atMs = monoMs();
  }

  /** Whether a line of this kind may be written; one that may not is counted. */
  take(kind: LineKind): boolean {
    const nowMs = this.monoMs();
    this.tokens = Math.min(this.most, this.tokens + ((nowMs - this.atMs) * this.perS) / 1_000);
    this.atMs = nowMs;
    const allowed = this.tokens - 1 >= this.most * LEAVES[kind];
    if (allowed) this.tokens -= 1;
    else this.leftOut[kind]++;
    return allowed;
  }
}
