// SPDX-License-Identifier: Apache-2.0
// Which of two pins of one flow counts, and what a gateway does that finds another one than its own.
import { type FlowRecord, flowRecordRank } from '@detour/contracts';

/**
 * Higher generation, then lower path; no wall clocks (ARCHITECTURE.md section 2). Of the same path: what nodes said of the flow, a drop
 * before nothing before an allow; then the end point that began it, `a` before `b`. So of any two different records one wins.
 */
export function winnerOf(one: FlowRecord, other: FlowRecord): FlowRecord {
  if (one.gen !== other.gen) return one.gen > other.gen ? one : other;
  if (one.path !== other.path) return one.path < other.path ? one : other;
  return flowRecordRank(one) >= flowRecordRank(other) ? one : other;
}

export type Settlement =
  /** Both say the same. */
  | { readonly kind: 'agreed' }
  | { readonly kind: 'adopt'; readonly record: FlowRecord }
  | { readonly kind: 'write'; readonly record: FlowRecord; readonly expectedGen: number };

export interface Standing {
  /** The path that Redis holds can be used here. */
  readonly usable: boolean;
  /**
   * The flow is known to have begun here: a later generation in Redis, or what a node has said there, is of an earlier connection between
   * the same ports.
   */
  readonly beganHere: boolean;
}

/**
 * What becomes of our pin when Redis holds another: the winner counts as it is, so that it does not matter who comes first. Only a pin
 * that lost and has to stand all the same takes the next generation.
 */
export function settlePin(ours: FlowRecord, held: FlowRecord, { usable, beganHere }: Standing): Settlement {
  if (isSame(ours, held)) return { kind: 'agreed' };
  if (winnerOf(ours, held) === ours) return { kind: 'write', record: ours, expectedGen: held.gen };
  const earlier = beganHere && (held.gen > ours.gen || held.programmed !== undefined);
  if (usable && !earlier) return { kind: 'adopt', record: held };
  return { kind: 'write', record: { ...ours, gen: held.gen + 1 }, expectedGen: held.gen };
}

function isSame(one: FlowRecord, other: FlowRecord): boolean {
  return one.gen === other.gen && one.path === other.path && flowRecordRank(one) === flowRecordRank(other);
}
