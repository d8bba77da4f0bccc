// SPDX-License-Identifier: Apache-2.0
/** The path table: chains, their paths and integer weights, from one revision, its nodes' scores and drains. Before health. Pure. */
import { AffinityKind, ChainRow, OnFailure, OnNodeDown, OnRuleChange, SelectPolicy } from '@detour/contracts';
import {
  type Chain,
  chainKey,
  levelledName,
  nodeKey,
  pathKey,
  type Revision,
  type ServiceNode,
  type SteeredChain,
  steeredChains,
} from '@detour/intent';
import { type NodeWorth, type PathNodes, weighPaths } from '@detour/tables';
import { type NodeFacts, type Worth, worthsOf } from './node-worths.js';

/** The table, and what of the intent it could not do as told, one sentence each by chain. */
export interface PathTable {
  readonly rows: readonly ChainRow[];
  readonly shortfalls: ReadonlyMap<string, string>;
}

/** The whole table for the gateways of a zone (null: of none); rows in the order of the intent, byte-identical for equal inputs. */
export function buildPathTable(revision: Revision, facts: NodeFacts, zone: string | null = null): PathTable {
  const { intent } = revision;
  const held = new Map<string | null, ReadonlyMap<string, Worth>>();
  const worthsFor = (level: string | null) => {
    const worths = held.get(level) ?? worthsOf(intent, facts, { zone, level });
    held.set(level, worths);
    return worths;
  };
  const shortfalls = new Map<string, string>();
  const rows: ChainRow[] = [];
  for (const steered of steeredChains(intent)) {
    const { chain, level, vrfs } = steered;
    const worths = worthsFor(level);
    const built = vrfs.map((vrf) => buildRow(steered, vrf, { revision, worths }));
    const served = built.filter((row) => row.paths.length > 0);
    rows.push(...served);
    if (level !== null) continue;
    if (served.length === 0)
      shortfalls.set(chain.name, `chain ${chain.name} has no path: declare nodes of its services`);
  }
  return { rows, shortfalls };
}

interface Surroundings {
  readonly revision: Revision;
  readonly worths: ReadonlyMap<string, Worth>;
}

/** The chain in one VRF. */
function buildRow(steered: SteeredChain, vrf: string, { revision, worths }: Surroundings): ChainRow {
  const { chain, level } = steered;
  const { intent, numbers } = revision;
  const nodeNamed = new Map(intent.nodes.map((node) => [node.name, node]));
  const byNumber = new Map<number, Worth>();
  const paths: PathNodes[] = steered.paths.flatMap((path) => {
    const number = numbers.paths[pathKey(chain.name, path)];
    if (path.vrf !== vrf || number === undefined) return [];
    const members = path.nodes.map((name) => {
      const declared = nodeNamed.get(name);
      const node = (declared && numbers.nodes[nodeKey(declared, vrf)]) ?? 0;
      const worth = worths.get(name);
      if (worth !== undefined) byNumber.set(node, worth);
      return node;
    });
    const belowLevel = path.nodes.filter((name) => worths.get(name)?.levelled === false).length;
    const hosts = hostsOf(path.nodes.map((name) => nodeNamed.get(name)));
    return [{ number, nodes: members, skipped: path.skipped, belowLevel, hosts }];
  });
  const select = chain.select === 'priority' ? 'priority' : 'weighted';
  const rankOf = ranksOf([...byNumber.values()].map(({ priority }) => priority));
  const nothing: NodeWorth = { score: 0, capacity: 0, drained: false };
  const weighed = weighPaths(paths, {
    select,
    worthOf: (node) => {
      const worth = byNumber.get(node);
      if (worth === undefined) return nothing;
      return select === 'priority' ? { ...worth, capacity: rankOf(worth.priority) } : worth;
    },
  });
  return ChainRow.fromPartial({
    number: numbers.chains[chainKey(chain.name, vrf)] ?? 0,
    name: chain.name,
    ...onFailureOf(chain, (backup) => numbers.chains[chainKey(levelledName(backup, level), vrf)] ?? 0),
    onNodeDown: chain.onNodeDown === 'keep' ? OnNodeDown.KEEP : OnNodeDown.REBALANCE,
    onRuleChange: chain.onRuleChange === 'keep' ? OnRuleChange.KEEP : OnRuleChange.REVALIDATE,
    affinity: AFFINITY[chain.affinity],
    mss: chain.mssClamp === undefined ? 0 : chain.mssClamp === 'auto' ? 1 : chain.mssClamp,
    select: SELECT[chain.select],
    keepsTier: chain.preempt === false,
    idleTcpMs: BigInt(chain.idleTimeout.tcp),
    idleUdpMs: BigInt(chain.idleTimeout.udp),
    idleOtherMs: BigInt(chain.idleTimeout.other),
    paths: weighed,
    allStale: weighed.some((path) => path.fallbackWeight > 0) && weighed.every((path) => path.weight === 0),
  });
}

/** Priorities as ranks from 1, so that neighbours stay apart when tiers are scaled to weights, and 0 is a tier like any other. */
function ranksOf(priorities: readonly number[]): (priority: number) => number {
  const sorted = [...new Set(priorities)].sort((x, y) => x - y);
  return (priority) => sorted.indexOf(priority) + 1;
}

/** On how many hosts nodes are; one whose host is not declared counts as on one of its own. */
function hostsOf(nodes: readonly (ServiceNode | undefined)[]): number {
  return new Set(nodes.map((node, at) => (node?.host === undefined ? at : node.host))).size;
}

const SELECT: Readonly<Record<Chain['select'], SelectPolicy>> = {
  weighted: SelectPolicy.WEIGHTED,
  priority: SelectPolicy.PRIORITY,
  local: SelectPolicy.LOCAL,
  random: SelectPolicy.RANDOM,
  'round-robin': SelectPolicy.ROUND_ROBIN,
  'least-flows': SelectPolicy.LEAST_FLOWS,
};

const AFFINITY: Readonly<Record<Chain['affinity'], AffinityKind>> = {
  '5-tuple': AffinityKind.FIVE_TUPLE,
  '3-tuple': AffinityKind.THREE_TUPLE,
  '2-tuple': AffinityKind.TWO_TUPLE,
  source: AffinityKind.SOURCE,
};

function onFailureOf({ onFailure }: Chain, numberOf: (backup: string) => number) {
  switch (onFailure.kind) {
    case 'drop':
      return { onFailure: OnFailure.DROP, backup: 0 };
    case 'bypass':
      return { onFailure: OnFailure.BYPASS, backup: 0 };
    case 'backup':
      return { onFailure: OnFailure.BACKUP, backup: numberOf(onFailure.chain) };
  }
}
