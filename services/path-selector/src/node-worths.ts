// SPDX-License-Identifier: Apache-2.0
/** What each node is worth to the gateways of one zone, for flows of one level: published scores, held to the caps. Pure. */
import { hasLevel, type Intent, type ServiceNode, scoringOf } from '@detour/intent';
import { capShares, type NodeWorth } from '@detour/tables';

/** What the state bucket says about nodes. */
export interface NodeFacts {
  /** The published score; null where none is: then the declared capacity counts. */
  readonly scoreOf: (node: string) => number | null;
  /** The published score for gateways of other zones than the node's; null where that makes no difference. */
  readonly otherZoneScoreOf: (node: string) => number | null;
  readonly drained: (node: string) => boolean;
}

/** A node's worth, with its priority for chains that select by it, and whether it has the level that was asked for. */
export interface Worth extends NodeWorth {
  readonly priority: number;
  readonly levelled: boolean;
}

export interface Asker {
  /** The zone of the gateways; null where they have none: then every node is of their zone. */
  readonly zone: string | null;
  /** QoS level of the flows; null: any node will do. */
  readonly level: string | null;
}

/**
 * Worths by name. The level is that of the score which holds everywhere, so that a node is gold to all gateways or to none. Nodes with
 * the level and nodes without it take no flows side by side, so each of the two sets is held to its caps by itself.
 */
export function worthsOf(
  intent: Intent,
  facts: NodeFacts,
  { zone, level }: Asker,
): ReadonlyMap<string, Worth> {
  const worths = new Map<string, Worth>();
  const scoreOf = (node: ServiceNode) => facts.scoreOf(node.name) ?? node.capacity;
  const scoreHere = (node: ServiceNode) =>
    isOtherZone(node, zone) ? (facts.otherZoneScoreOf(node.name) ?? scoreOf(node)) : scoreOf(node);
  const levelled = (node: ServiceNode) =>
    level === null || hasLevel(scoringOf(intent, node), level, scoreOf(node));
  for (const service of intent.services) {
    const members = intent.nodes.filter((node) => node.service === service.name);
    for (const has of [true, false]) {
      const nodes = members.filter((node) => levelled(node) === has);
      const capped = (worthOf: (node: ServiceNode) => number) =>
        capShares(
          nodes.map((node) => ({
            name: node.name,
            worth: facts.drained(node.name) ? 0 : worthOf(node),
            maxShare: node.maxShare ?? 1,
          })),
        );
      const scores = capped(scoreHere);
      const capacities = capped((node) => node.capacity);
      for (const { name, priority } of nodes)
        worths.set(name, {
          score: scores.get(name) ?? 0,
          capacity: capacities.get(name) ?? 0,
          drained: facts.drained(name),
          priority,
          levelled: has,
        });
    }
  }
  return worths;
}

/** A gateway or a node without a zone is near to all. */
function isOtherZone(node: ServiceNode, zone: string | null): boolean {
  return zone !== null && node.zone !== undefined && node.zone !== zone;
}
