// SPDX-License-Identifier: Apache-2.0
/**
 * Chains as packets meet them: each chain, and each chain with a QoS level that a rule asks for.
 *
 * A chain with a level is a chain of its own, `inspect/gold`, with a number, paths, a selection and health in each VRF of the rules that
 * lead to it, and differs from `inspect` in which paths come first alone. So the datapath needs to know nothing of levels.
 */
import type { Chain, Intent, Scoring, ServiceNode } from './schema.js';
import { type ChainPath, pathsOfChain, vrfsOfChain } from './topology.js';

export interface SteeredChain {
  /** As declared; with a level its name is `levelledName`. */
  readonly chain: Chain;
  /** null: flows of rules without a level. */
  readonly level: string | null;
  /** Where it has a number, sorted. */
  readonly vrfs: readonly string[];
  readonly paths: readonly ChainPath[];
}

/** Name of a chain for flows of a level; names hold no `/`, so it is the name of no other chain. */
export function levelledName(chain: string, level: string | null | undefined): string {
  return level === null || level === undefined ? chain : `${chain}/${level}`;
}

/** Every chain in the order of the intent, each followed by those with a level. */
export function steeredChains(intent: Pick<Intent, 'chains' | 'nodes' | 'rules'>): SteeredChain[] {
  const asked = levelsAsked(intent);
  return intent.chains.flatMap((chain) => {
    const paths = pathsOfChain(intent.nodes, chain);
    const levels = [...(asked.get(chain.name) ?? [])].sort(([x], [y]) => (x < y ? -1 : 1));
    return [
      { chain, level: null, vrfs: vrfsOfChain(intent, chain), paths },
      ...levels.map(([level, vrfs]) => ({
        chain: { ...chain, name: levelledName(chain.name, level) },
        level,
        vrfs: [...vrfs].sort(),
        paths: paths.filter(({ vrf }) => vrfs.has(vrf)),
      })),
    ];
  });
}

/** VRFs by level by chain, from the rules; a chain's backup is asked for the same. */
function levelsAsked({ chains, rules }: Pick<Intent, 'chains' | 'rules'>) {
  const declared = new Map(chains.map((chain) => [chain.name, chain]));
  const asked = new Map<string, Map<string, Set<string>>>();
  for (const { action, level, match } of rules) {
    if (action.kind !== 'chain' || level === undefined) continue;
    const seen = new Set<string>();
    let next: Chain | undefined = declared.get(action.chain);
    while (next !== undefined && !seen.has(next.name)) {
      seen.add(next.name);
      const levels = asked.get(next.name) ?? new Map<string, Set<string>>();
      levels.set(level, (levels.get(level) ?? new Set()).add(match.vrf));
      asked.set(next.name, levels);
      next = next.onFailure.kind === 'backup' ? declared.get(next.onFailure.chain) : undefined;
    }
  }
  return asked;
}

/** The policy by which a node's service is scored; an intent always has a `default`. */
export function scoringOf(
  intent: Pick<Intent, 'services' | 'scoring'>,
  node: Pick<ServiceNode, 'service'>,
): Scoring | undefined {
  const name = intent.services.find((service) => service.name === node.service)?.scoring ?? 'default';
  return intent.scoring[name] ?? intent.scoring.default;
}

/** Whether a score gives a node a level. A policy without that level asks nothing of the nodes that it scores. */
export function hasLevel(scoring: Scoring | undefined, level: string, score: number): boolean {
  const least = scoring?.levels[level];
  return least === undefined || score >= least;
}
