// SPDX-License-Identifier: Apache-2.0
// The health of this gateway's nodes, as its bfd reports it; what is in force when bfd is gone, and what is not known yet.
import { HealthState } from '@detour/contracts';
import type { NodeModel } from './model.js';

export type HealthName = 'up' | 'down' | 'admin-down' | 'unknown' | 'stale';

export interface NodeHealthView {
  readonly state: HealthName; // as shown: stale while bfd is gone
  readonly lastState: 'up' | 'down' | 'admin-down' | 'unknown'; // in force
  readonly source: string;
  readonly why: string;
  readonly atMonoNs: bigint;
}

interface Report {
  readonly node: string;
  readonly vrf: string;
  readonly state: HealthState;
  readonly source: string;
  readonly why: string;
  readonly atMonoNs: bigint;
}

const NAME: Readonly<Record<HealthState, 'up' | 'down' | 'admin-down' | 'unknown'>> = {
  [HealthState.UNSPECIFIED]: 'unknown',
  [HealthState.UP]: 'up',
  [HealthState.DOWN]: 'down',
  [HealthState.ADMIN_DOWN]: 'admin-down',
  [HealthState.UNKNOWN]: 'unknown',
  [HealthState.STALE]: 'unknown',
};

const UNKNOWN: NodeHealthView = {
  state: 'unknown',
  lastState: 'unknown',
  source: 'bfd',
  why: 'no session has reported yet',
  atMonoNs: 0n,
};

/** Last reported states by node name. bfd's crash changes nothing but the view: its last word stays in force. */
export class HealthBook {
  private readonly reports = new Map<string, NodeHealthView>();
  private connected = false;
  private goneWhy = 'bfd has not been reached yet';

  /** Takes a report; returns the nodes whose state in force changed. A snapshot drops what it does not name. */
  take(snapshot: boolean, reports: readonly Report[]): string[] {
    this.connected = true;
    const changed = new Set<string>();
    const named = new Set(reports.map((report) => report.node));
    if (snapshot) {
      for (const node of [...this.reports.keys()]) {
        if (named.has(node)) continue;
        this.reports.delete(node);
        changed.add(node);
      }
    }
    for (const report of reports) {
      const state = NAME[report.state];
      const before = this.reports.get(report.node)?.lastState ?? 'unknown';
      this.reports.set(report.node, {
        state,
        lastState: state,
        source: report.source,
        why: report.why,
        atMonoNs: report.atMonoNs,
      });
      if (before !== state) changed.add(report.node);
    }
    return [...changed];
  }

  lost(why: string): void {
    this.connected = false;
    this.goneWhy = why;
  }

  get isConnected(): boolean {
    return this.connected;
  }

  viewOf(node: string): NodeHealthView {
    const report = this.reports.get(node) ?? UNKNOWN;
    return this.connected
      ? report
      : { ...report, state: 'stale', why: `${this.goneWhy}; last state: ${report.lastState}` };
  }

  /** Whether new flows may be sent to a node. One without a health profile is always usable; admin-down follows its profile. */
  isUsable(node: NodeModel): boolean {
    if (!node.liveness) return true;
    const { lastState } = this.viewOf(node.name);
    return lastState === 'up' || (lastState === 'admin-down' && node.adminDownKeeps);
  }
}
