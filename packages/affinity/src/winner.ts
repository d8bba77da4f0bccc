// SPDX-License-Identifier: Apache-2.0
// Which of two pins of one flow counts.
import type { FlowRecord } from '@detour/contracts';

/** Higher generation, then lower path; no wall clocks (ARCHITECTURE.md section 2). */
export function winnerOf(one: FlowRecord, other: FlowRecord): FlowRecord {
  if (one.gen !== other.gen) return one.gen > other.gen ? one : other;
  return other.path < one.path ? other : one;
}
