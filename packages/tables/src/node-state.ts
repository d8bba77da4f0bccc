// SPDX-License-Identifier: Apache-2.0
// What a report about a node's health means for its paths: three states, with the last one in force where a report says nothing new.
import { HealthState } from '@detour/contracts';

/**
 * up: takes new flows. down: its flows are moved or dropped. unknown: never heard of since start; takes no new flows, and what is
 * pinned to it stays.
 */
export type NodeState = 'up' | 'down' | 'unknown';

/**
 * The state after a report, given the state before it.
 * A stale report (the prober died, not the node) and AdminDown with action `keep` leave what was; AdminDown with `failover` is down.
 */
export function nextNodeState(
  before: NodeState,
  report: HealthState,
  adminDownAction: 'keep' | 'failover',
): NodeState {
  switch (report) {
    case HealthState.UP:
      return 'up';
    case HealthState.DOWN:
      return 'down';
    case HealthState.ADMIN_DOWN:
      return adminDownAction === 'failover' ? 'down' : before;
    case HealthState.STALE:
      return before;
    case HealthState.UNKNOWN:
    case HealthState.UNSPECIFIED:
      return 'unknown';
  }
}
