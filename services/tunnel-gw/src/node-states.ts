// SPDX-License-Identifier: Apache-2.0
// How the nodes of a model are now, as chains ask for it.
import type { NodeState } from '@detour/tables';
import type { HealthBook } from './health.js';
import { everyNode, type GatewayModel } from './model.js';

/** States by node number. A node that is not attached here is never up. */
export function nodeStates(model: GatewayModel, health: HealthBook): (number: number) => NodeState {
  const states = new Map(
    everyNode(model).map((node) => [
      node.number,
      node.liveness ? health.viewOf(node).inForce : ('up' as const),
    ]),
  );
  return (number) => states.get(number) ?? 'down';
}
