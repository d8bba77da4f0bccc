// SPDX-License-Identifier: Apache-2.0
/** Questions about a document that several parts ask: which VRFs a node serves, where it is attached, which paths a chain has. */
import type { Attach, Chain, Group, Intent, Rule, ServiceNode } from './schema.js';

/** VRFs that a node serves. */
export function vrfsOfNode(node: ServiceNode): readonly string[] {
  const { attach } = node;
  if (attach.kind === 'l2pair') return Object.keys(attach.vrfs).sort();
  return attach.vrf === undefined ? [] : [attach.vrf];
}

/** Gateways that a node is attached to; none for a node behind a host's service plane. */
export function gatewaysOfNode(node: ServiceNode): readonly string[] {
  const { attach } = node;
  switch (attach.kind) {
    case 'tunnel':
      return Object.keys(attach.gateways).sort();
    case 'l2pair':
      return [attach.gateway];
    case 'l3':
      return attach.gateway === undefined ? [] : [attach.gateway];
    case 'gwlb':
      return attach.gateways ?? [];
    case 'plane':
      return [];
  }
}

/** True when what the node returns carries no word on which path it is of: only the port it comes by tells. */
export function isBlind(attach: Attach): boolean {
  return !(attach.kind === 'gwlb' || (attach.kind === 'plane' && attach.format !== 'none'));
}

/** One path of a chain in one VRF: its nodes in the forward direction, and how many optional hops it leaves out. */
export interface ChainPath {
  readonly vrf: string;
  readonly nodes: readonly string[];
  readonly skipped: number;
}

/** Nodes of each hop of a chain, by name. */
export function nodesOfHops(nodes: readonly ServiceNode[], chain: Chain): ServiceNode[][] {
  return chain.hops.map((hop) =>
    nodes.filter((node) => node.service === hop.service).sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
}

/**
 * Every path of a chain: for each VRF, in the order of its nodes' names, the product of the nodes of its hops that serve the VRF, without
 * those that pass one node twice, and only those that the chain names, if it names any. An optional hop may be left out: such paths come
 * after those that have it. No path is without nodes.
 */
export function pathsOfChain(nodes: readonly ServiceNode[], chain: Chain): ChainPath[] {
  const hops = nodesOfHops(nodes, chain);
  const vrfs = [...new Set(hops.flat().flatMap(vrfsOfNode))].sort();
  const named = chain.paths && new Set(chain.paths.map((path) => path.join()));
  return vrfs
    .flatMap((vrf) => pathsInVrf(hops, chain, vrf))
    .filter((path) => named === undefined || named.has(path.nodes.join()));
}

function pathsInVrf(hops: readonly ServiceNode[][], chain: Chain, vrf: string): ChainPath[] {
  let paths: ChainPath[] = [{ vrf, nodes: [], skipped: 0 }];
  for (const [index, candidates] of hops.entries()) {
    const isOptional = chain.hops[index]?.optional === true;
    const serving = candidates.filter((node) => vrfsOfNode(node).includes(vrf));
    paths = paths.flatMap((path) => [
      ...serving.flatMap(({ name }) =>
        path.nodes.includes(name) ? [] : [{ ...path, nodes: [...path.nodes, name] }],
      ),
      ...(isOptional ? [{ ...path, skipped: path.skipped + 1 }] : []),
    ]);
  }
  // Of two that have the same nodes (one service in two optional hops) the first leaves out no more than the other.
  const keys = new Set<string>();
  return paths
    .filter((path) => path.nodes.length > 0)
    .sort((a, b) => a.skipped - b.skipped)
    .filter((path) => {
      const key = path.nodes.join();
      if (keys.has(key)) return false;
      keys.add(key);
      return true;
    });
}

/** VRFs in which a chain has a number: those that its nodes serve, and those of the rules that lead to it. */
export function vrfsOfChain(intent: Pick<Intent, 'nodes' | 'rules'>, chain: Chain): string[] {
  const served = nodesOfHops(intent.nodes, chain).flat().flatMap(vrfsOfNode);
  const asked = intent.rules.flatMap(({ action, match }) =>
    action.kind === 'chain' && action.chain === chain.name ? [match.vrf] : [],
  );
  return [...new Set([...served, ...asked])].sort();
}

/** The key by which a chain keeps its number in a VRF: each VRF has its own nodes, health and share of new flows. */
export function chainKey(chain: string, vrf: string): string {
  return `${chain}@${vrf}`;
}

/** The key by which a node keeps its number; a pair is a node of its own in each VRF. */
export function nodeKey(node: ServiceNode, vrf: string): string {
  return node.attach.kind === 'l2pair' ? `${node.name}@${vrf}` : node.name;
}

/** How a node is called in one of its VRFs: by its name, with the VRF where it serves several. */
export function nodeLabel(node: ServiceNode, vrf: string): string {
  return vrfsOfNode(node).length > 1 ? `${node.name}@${vrf}` : node.name;
}

/** The key by which a path keeps its number: the chain, the VRF, and its nodes in order. */
export function pathKey(chain: string, { vrf, nodes }: Pick<ChainPath, 'vrf' | 'nodes'>): string {
  return `${chainKey(chain, vrf)}:${nodes.join(',')}`;
}

/** The key of the policy (redirection id) that a rule leads to; undefined for rules that allow or drop. */
export function policyKey(rule: Rule): string | undefined {
  if (rule.action.kind !== 'chain') return undefined;
  return `${rule.match.vrf}/${rule.action.chain}${rule.level === undefined ? '' : `@${rule.level}`}`;
}

/** What one side of a match names once groups are looked up: prefixes, and guests as `host/guest`. */
export interface ResolvedSide {
  /** True when any address matches; the lists are empty then. */
  readonly any: boolean;
  readonly prefixes: readonly string[];
  readonly guests: readonly string[];
}

/** Guests, as `host/guest`, that carry all labels of a group. */
export function guestsOfGroup(hosts: Intent['hosts'], group: Group): string[] {
  const wanted = Object.entries(group.guestLabels ?? {});
  if (group.guestLabels === undefined) return [];
  return hosts.flatMap((host) =>
    host.guests
      .filter((guest) => wanted.every(([label, value]) => guest.labels[label] === value))
      .map((guest) => `${host.name}/${guest.name}`),
  );
}

/** Looks up the groups of one side of a match; groups that do not exist name nobody. */
export function resolveSide(
  intent: { readonly groups: readonly Group[]; readonly hosts: Intent['hosts'] },
  refs: Rule['match']['source'],
): ResolvedSide {
  if (refs.length === 0) return { any: true, prefixes: [], guests: [] };
  const prefixes = new Set<string>();
  const guests = new Set<string>();
  for (const ref of refs) {
    if (ref.kind === 'prefix') prefixes.add(ref.prefix);
    for (const group of intent.groups) {
      if (ref.kind !== 'group' || group.name !== ref.group) continue;
      for (const prefix of group.addresses ?? []) prefixes.add(prefix);
      for (const guest of guestsOfGroup(intent.hosts, group)) guests.add(guest);
    }
  }
  return { any: false, prefixes: [...prefixes].sort(), guests: [...guests].sort() };
}
