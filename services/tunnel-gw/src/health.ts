// SPDX-License-Identifier: Apache-2.0
// The health of this gateway's nodes, as its bfd reports it; what is in force when bfd is gone, and what is not known yet.
import { HealthState, type NodeHealth } from '@detour/contracts';
import { type NodeState, nextNodeState } from '@detour/tables';

export interface NodeHealthView {
  readonly shown: HealthState; // STALE while bfd is gone
  readonly inForce: NodeState;
  readonly source: string;
  readonly why: string;
  readonly atMonoNs: bigint;
}

export interface NodePolicy {
  readonly liveness: boolean; // false: no health profile, always up
  readonly adminDownAction: 'keep' | 'failover';
}

interface Held {
  readonly report: HealthState;
  readonly inForce: NodeState;
  readonly source: string;
  readonly why: string;
  readonly atMonoNs: bigint;
  readonly life: number; // of the bfd that said so
}

/** A node in one of its VRFs. */
export interface WatchedNode {
  readonly name: string;
  readonly vrfName: string;
}

/** Last reported states by node and VRF. bfd's crash changes nothing but the view: its last word stays in force. */
export class HealthBook {
  private readonly held = new Map<string, Held>();
  private connected = false;
  private life = 0;
  private goneWhy = 'bfd has not been reached yet';

  constructor(private readonly policyOf: (node: WatchedNode) => NodePolicy) {}

  /** Takes a report; returns the nodes (`name/vrf`) whose state in force changed. A snapshot drops what it does not name. */
  take(
    snapshot: boolean,
    reports: readonly Pick<NodeHealth, 'node' | 'vrf' | 'state' | 'source' | 'why' | 'atMonoNs'>[],
  ): string[] {
    this.connected = true;
    const changed: string[] = [];
    if (snapshot) {
      const named = new Set(reports.map((report) => keyOf({ name: report.node, vrfName: report.vrf })));
      for (const node of [...this.held.keys()].filter((name) => !named.has(name))) {
        this.held.delete(node);
        changed.push(node);
      }
    }
    for (const { node: name, vrf: vrfName, state, source, why, atMonoNs } of reports) {
      const node = keyOf({ name, vrfName });
      const before = this.held.get(node)?.inForce ?? 'unknown';
      const inForce = nextNodeState(before, state, this.policyOf({ name, vrfName }).adminDownAction);
      this.held.set(node, { report: state, inForce, source, why, atMonoNs, life: this.life });
      if (before !== inForce) changed.push(node);
    }
    return changed;
  }

  lost(why: string): void {
    this.connected = false;
    this.life++;
    this.goneWhy = why;
  }

  get isConnected(): boolean {
    return this.connected;
  }

  /** Resolves when bfd has reported, or after so many milliseconds. */
  async connectedWithin(ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (!this.connected && performance.now() < until)
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
  }

  viewOf(node: WatchedNode): NodeHealthView {
    if (!this.policyOf(node).liveness) {
      return {
        shown: HealthState.UP,
        inForce: 'up',
        source: 'none',
        why: 'no health profile is named',
        atMonoNs: 0n,
      };
    }
    const held = this.held.get(keyOf(node)) ?? {
      report: HealthState.UNKNOWN,
      inForce: 'unknown',
      source: 'bfd',
      why: 'no session has reported yet',
      atMonoNs: 0n,
      life: this.life,
    };
    const view = { inForce: held.inForce, source: held.source, atMonoNs: held.atMonoNs };
    if (this.connected && held.life === this.life) return { ...view, shown: held.report, why: held.why };
    const why = this.connected ? 'bfd is back and has not said yet how this node is' : this.goneWhy;
    return { ...view, shown: HealthState.STALE, why: `${why}; last state: ${held.inForce}` };
  }
}

function keyOf({ name, vrfName }: WatchedNode): string {
  return [name, vrfName].join('/');
}
