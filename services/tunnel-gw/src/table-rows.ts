// SPDX-License-Identifier: Apache-2.0
// The live tables as people and programs read them: rules with their redirection ids, policies, selections.
import type { PolicyRow, RuleRow, RuleTableRow, SelectionRow, TablesResponse } from '@detour/contracts';
import { formatPrefix } from '@detour/core';
import type { HealthBook } from './health.js';
import { type AnyNode, type ChainModel, everyNode, type GatewayModel, isArmed, nodeLabel } from './model.js';
import type { TableSet } from './table-book.js';

export function tablesResponse(
  set: TableSet,
  chains: ReadonlyMap<number, ChainModel>,
  health: HealthBook,
): TablesResponse {
  return {
    rules: set.ruleRows.map(
      (row): RuleTableRow => ({ rule: row.name, attributes: attributesOf(row), redirectionId: row.chain }),
    ),
    policies: [...chains.values()].flatMap((chain) => policiesOf(set.model, chain, health)),
    selections: [...chains.values()].map((chain) => selectionOf(set.model, chain)),
  };
}

function attributesOf(row: RuleRow): string {
  const list = (name: string, values: readonly string[]) =>
    values.length === 0 ? [] : [`${name} ${values.join(',')}`];
  const ranges = (values: readonly { first: number; last: number }[]) =>
    values.map((range) => (range.first === range.last ? `${range.first}` : `${range.first}-${range.last}`));
  return [
    `vrf ${row.vrf}`,
    ...list('src', row.sources.map(formatPrefix)),
    ...list('dst', row.destinations.map(formatPrefix)),
    ...list('proto', row.protocols.map(String)),
    ...list('sport', ranges(row.sourcePorts)),
    ...list('dport', ranges(row.destinationPorts)),
    ...list('port', row.appliedTo.map(String)),
    `priority ${row.priority}`,
  ].join(' ');
}

/** One row per path: where its first node is reached, and what BFD says of it. */
function policiesOf(model: GatewayModel, chain: ChainModel, health: HealthBook): PolicyRow[] {
  return chain.paths.flatMap((path) => {
    const nodes = path.nodes.map((number) => everyNode(model).find((node) => node.number === number));
    const [first] = nodes;
    if (first === undefined) return [];
    return [
      {
        redirectionId: chain.number,
        vrf: first.vrfName,
        path: nodes.map((node) => node?.label ?? '?').join('→'),
        ...placeOf(first),
        bfd: nodes.map((node) => (node === undefined ? 'unknown' : health.viewOf(node).inForce)).join(','),
      },
    ];
  });
}

/** Where packets for a node go: by tunnel its inner peer, else the next hop of each arm; and the address pair. */
function placeOf(node: AnyNode): { nextHop: string; pair: string } {
  if (!isArmed(node)) return { nextHop: node.peer, pair: `${node.local} ${node.peer}` };
  const arms = [...new Set(node.arms)];
  return {
    nextHop: [...new Set(arms.map((arm) => arm.nextHop))].join(' '),
    pair: [...new Set(arms.map((arm) => arm.addresses[0] ?? ''))].join(' '),
  };
}

function selectionOf(model: GatewayModel, chain: ChainModel): SelectionRow {
  const slots = new Map<number, number>();
  for (const path of chain.slots) slots.set(path, (slots.get(path) ?? 0) + 1);
  return {
    chain: chain.name,
    slots: chain.slots.length,
    gen: chain.gen,
    shares: chain.paths.map((path) => ({
      path: path.number,
      nodes: path.nodes.map((number) => nodeLabel(model, number)),
      slots: slots.get(path.number) ?? 0,
      weight: path.weight,
      state: path.up ? 'up' : 'down',
    })),
  };
}
