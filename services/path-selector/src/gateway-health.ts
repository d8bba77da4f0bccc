// SPDX-License-Identifier: Apache-2.0
/** Health of nodes as each gateway reports it (keys health.*): what questions of that gateway are answered by. */
import type { HealthValue } from '@detour/contracts';
import { HealthState, parseStateKey } from '@detour/contracts';
import type { Revision } from '@detour/intent';
import { type NodeState, nextNodeState } from '@detour/tables';

const STATES: Readonly<Record<HealthValue['state'], HealthState>> = {
  up: HealthState.UP,
  down: HealthState.DOWN,
  'admin-down': HealthState.ADMIN_DOWN,
  unknown: HealthState.UNKNOWN,
  stale: HealthState.STALE,
};

/** null when the value is no HealthValue; only its state decides here. */
function readHealthState(value: unknown): HealthState | null {
  if (typeof value !== 'object' || value === null) return null;
  const { state } = value as Record<string, unknown>;
  return typeof state === 'string' && Object.hasOwn(STATES, state)
    ? STATES[state as HealthValue['state']]
    : null;
}

interface NodePolicy {
  readonly adminDownAction: 'keep' | 'failover';
}

/** Worst first: a node with a session per VRF is as good as its worst. */
const ORDER: readonly NodeState[] = ['down', 'unknown', 'up'];

export class GatewayHealth {
  /** gateway → node → VRF ('' for all) → state in force. */
  readonly #held = new Map<string, Map<string, Map<string, NodeState>>>();
  #policies = new Map<string, NodePolicy>();

  /** Which nodes are watched at all, and what AdminDown means for them. Those without a health profile are always up. */
  setPolicies({ intent }: Revision): void {
    const profiles = new Map(intent.healthProfiles.map((profile) => [profile.name, profile]));
    this.#policies = new Map(
      intent.nodes.flatMap(({ name, health }) => {
        const profile = health === undefined ? undefined : profiles.get(health);
        return profile === undefined ? [] : [[name, { adminDownAction: profile.adminDownAction }] as const];
      }),
    );
  }

  /** Takes one key's new value, undefined when it was deleted. The gateway whose nodes' states changed; null when none did. */
  take(key: string, value: unknown): string | null {
    const parsed = parseStateKey(key);
    if (parsed?.kind !== 'health') return null;
    const { gateway, node, vrf } = parsed;
    const before = this.#held.get(gateway)?.get(node)?.get(vrf);
    const report = value === undefined ? null : readHealthState(value);
    const after = report === null ? undefined : this.#inForce(before, report, node);
    if (before === after) return null;
    const nodes = getOrMake(this.#held, gateway);
    const sessions = getOrMake(nodes, node);
    if (after === undefined) sessions.delete(vrf);
    else sessions.set(vrf, after);
    return gateway;
  }

  /** The state of a node as the gateway sees it. */
  stateOf(gateway: string, node: string): NodeState {
    if (!this.#policies.has(node)) return 'up';
    const sessions = this.#held.get(gateway)?.get(node);
    const states = sessions === undefined ? [] : [...sessions.values()];
    return ORDER.find((state) => states.includes(state)) ?? 'unknown';
  }

  /**
   * A report that says nothing new (stale; AdminDown with action keep) leaves what was. If nothing was, because this process started
   * after the last word, the node counts as up: the gateway knows better and re-pins by itself.
   */
  #inForce(before: NodeState | undefined, report: HealthState, node: string): NodeState {
    return nextNodeState(before ?? 'up', report, this.#policies.get(node)?.adminDownAction ?? 'keep');
  }
}

function getOrMake<V>(map: Map<string, Map<string, V>>, key: string): Map<string, V> {
  const held = map.get(key);
  if (held !== undefined) return held;
  const made = new Map<string, V>();
  map.set(key, made);
  return made;
}
