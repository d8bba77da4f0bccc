// SPDX-License-Identifier: Apache-2.0
/** Holds nodes to the largest share of their service's flows that the operator allows them (maxShare). Pure. */

/** One node of a service: what it is worth, and the largest share (0..1] of the service's flows; 1 where none is declared. */
export interface CappedNode {
  readonly name: string;
  readonly worth: number;
  readonly maxShare: number;
}

/**
 * The worths, lowered so that no node's share of their sum exceeds its maxShare. What a capped node gives up goes to the others in
 * proportion. Where the caps add up to less than 1 they cannot all hold: then they are the proportions.
 */
export function capShares(nodes: readonly CappedNode[]): Map<string, number> {
  const live = nodes.filter(({ worth }) => worth > 0);
  const capped = new Set<CappedNode>();
  let total = sum(live.map(({ worth }) => worth));
  for (;;) {
    const over = live.filter((node) => !capped.has(node) && node.worth > node.maxShare * total);
    if (over.length === 0) break;
    for (const node of over) capped.add(node);
    const free = live.filter((node) => !capped.has(node));
    const share = sum([...capped].map(({ maxShare }) => maxShare));
    // The caps of those that exceed them add up to less than 1, unless nobody is left (or by rounding).
    if (free.length === 0 || share >= 1) return asMap(nodes, (node) => (node.worth > 0 ? node.maxShare : 0));
    total = sum(free.map(({ worth }) => worth)) / (1 - share);
  }
  return asMap(nodes, (node) => (capped.has(node) ? node.maxShare * total : Math.max(0, node.worth)));
}

function sum(values: readonly number[]): number {
  return values.reduce((left, right) => left + right, 0);
}

function asMap(nodes: readonly CappedNode[], worthOf: (node: CappedNode) => number): Map<string, number> {
  return new Map(nodes.map((node) => [node.name, worthOf(node)]));
}
