// SPDX-License-Identifier: Apache-2.0
/** `get vrfs|chains|paths|rules`: what the intent declares, with its numbers and what gateways count of it. */
import { GatewayClient, type TablesResponse } from '@detour/contracts';
import {
  type Chain,
  chainKey,
  type Intent,
  levelledName,
  pathKey,
  protocolName,
  type Rule,
  steeredChains,
  vrfsOfNode,
} from '@detour/intent';
import { type Answers, askAll, askOnce, instancesAt } from './ask.js';
import { type Column, viewRows } from './render.js';
import type { Query, Resource } from './resource.js';

interface VrfRow {
  readonly name: string;
  readonly number: number | null;
  readonly table: number;
  readonly ports: readonly string[];
  readonly nodes: readonly string[];
}

function portsOfVrf(intent: Intent, vrf: string): string[] {
  const ports = intent.gateways.flatMap((gateway) =>
    gateway.ports.filter((port) => port.vrf === vrf).map((port) => `${gateway.name}/${port.name}`),
  );
  const guests = intent.hosts.flatMap((host) =>
    host.guests.filter((guest) => guest.vrf === vrf).map((guest) => `${host.name}/${guest.name}`),
  );
  return [...ports, ...guests];
}

const VRF_COLUMNS: readonly Column<VrfRow>[] = [
  ['VRF', (row) => row.name],
  ['NUMBER', (row) => row.number],
  ['TABLE', (row) => row.table],
  ['PORTS', (row) => row.ports],
  ['NODES', (row) => row.nodes],
];

export const vrfsResource: Resource = {
  summary: 'VRFs with their routing tables, ports and nodes',
  filters: [],
  load: async ({ current }) => {
    const rows = (current?.intent.vrfs ?? []).map((vrf): VrfRow => {
      const nodes = (current?.intent.nodes ?? []).filter((node) => vrfsOfNode(node).includes(vrf.name));
      return {
        name: vrf.name,
        number: current?.numbers.vrfs[vrf.name] ?? null,
        table: vrf.table,
        ports: current === null ? [] : portsOfVrf(current.intent, vrf.name),
        nodes: nodes.map(({ name }) => name),
      };
    });
    return { view: viewRows(rows, VRF_COLUMNS), missing: [] };
  },
};

function onFailureText(chain: Chain): string {
  return chain.onFailure.kind === 'backup' ? `backup: ${chain.onFailure.chain}` : chain.onFailure.kind;
}

interface ChainRow {
  readonly name: string;
  readonly vrf: string;
  readonly number: number | null;
  readonly hops: readonly string[];
  readonly select: string;
  readonly affinity: string;
  readonly onFailure: string;
  readonly onNodeDown: string;
  readonly paths: number;
}

const CHAIN_COLUMNS: readonly Column<ChainRow>[] = [
  ['CHAIN', (row) => row.name],
  ['VRF', (row) => row.vrf],
  ['NUMBER', (row) => row.number],
  ['HOPS', (row) => row.hops.join(' → ')],
  ['SELECT', (row) => row.select],
  ['AFFINITY', (row) => row.affinity],
  ['ON FAILURE', (row) => row.onFailure],
  ['ON NODE DOWN', (row) => row.onNodeDown],
  ['PATHS', (row) => row.paths],
];

export const chainsResource: Resource = {
  summary: 'chains: their services in order, and what happens on failure',
  filters: [],
  load: async ({ current }) => {
    const chains = (current === null ? [] : steeredChains(current.intent)).flatMap(({ chain, vrfs, paths }) =>
      vrfs.map((vrf) => ({ chain, vrf, paths })),
    );
    const rows = chains.map(
      ({ chain, vrf, paths }): ChainRow => ({
        name: chain.name,
        vrf,
        number: current?.numbers.chains[chainKey(chain.name, vrf)] ?? null,
        hops: chain.hops.map((hop) => (hop.optional ? `${hop.service}?` : hop.service)),
        select: chain.select,
        affinity: chain.affinity,
        onFailure: onFailureText(chain),
        onNodeDown: chain.onNodeDown,
        paths: paths.filter((path) => path.vrf === vrf).length,
      }),
    );
    return { view: viewRows(rows, CHAIN_COLUMNS), missing: [] };
  },
};

interface PathShare {
  readonly gateway: string;
  readonly state: string;
  readonly weight: number;
  readonly slots: number;
  /** Share of the chain's slots, 0..1. */
  readonly share: number;
}

interface PathRow {
  readonly number: number | null;
  readonly chain: string;
  readonly nodes: readonly string[];
  readonly vrf: string;
  /** What each gateway that answered selects by. */
  readonly gateways: readonly PathShare[];
}

const PATH_COLUMNS: readonly Column<PathRow>[] = [
  ['PATH', (row) => row.number],
  ['CHAIN', (row) => row.chain],
  ['NODES', (row) => row.nodes.join(' → ')],
  ['VRF', (row) => row.vrf],
  [
    'NEW FLOWS',
    (row) => row.gateways.map((at) => `${at.gateway}: ${(at.share * 100).toFixed(1)}% (${at.state})`),
  ],
];

function sharesOf(tables: Answers<TablesResponse>, chain: string, number: number | undefined): PathShare[] {
  return tables.answers.flatMap(({ instance, answer }) => {
    const selection = answer.selections.find(
      (row) => row.chain === chain && row.shares.some(({ path }) => path === number),
    );
    const share = selection?.shares.find((row) => row.path === number);
    if (selection === undefined || share === undefined) return [];
    const { state, weight, slots } = share;
    return [
      {
        gateway: instance.gateway,
        state,
        weight,
        slots,
        share: selection.slots === 0 ? 0 : slots / selection.slots,
      },
    ];
  });
}

function askTables({ cluster, filters }: Query): Promise<Answers<TablesResponse>> {
  return askAll(instancesAt(cluster, 'tunnel-gw', filters.gateway), GatewayClient, (client) =>
    askOnce(client.getTables.bind(client), {}),
  );
}

export const pathsResource: Resource = {
  summary: 'paths: the nodes of each, and the share of new flows that each gateway gives it',
  filters: ['chain', 'node', 'gateway'],
  load: async (query) => {
    const { current, filters } = query;
    const tables = await askTables(query);
    const rows = (current === null ? [] : steeredChains(current.intent))
      .filter(({ chain }) => filters.chain === undefined || chain.name === filters.chain)
      .flatMap(({ chain, paths }) =>
        paths.map((path): PathRow => {
          const number = current?.numbers.paths[pathKey(chain.name, path)];
          const gateways = sharesOf(tables, chain.name, number);
          return { number: number ?? null, chain: chain.name, nodes: path.nodes, vrf: path.vrf, gateways };
        }),
      )
      .filter((row) => filters.node === undefined || row.nodes.includes(filters.node));
    return { view: viewRows(rows, PATH_COLUMNS), missing: tables.missing };
  },
};

interface RuleRow {
  readonly name: string;
  readonly number: number | null;
  readonly priority: number;
  readonly vrf: string;
  readonly match: string;
  readonly appliedTo: readonly string[];
  readonly action: string;
  readonly level: string | null;
  readonly redirectionId: number | null;
  /** The chain does not exist: packets follow unresolvedPolicy. */
  readonly unresolved: boolean;
  readonly packets: number;
  readonly bytes: number;
}

/** A match as one line: `tcp office → any :80,443`. */
export function matchText({ match }: Rule): string {
  const side = (refs: Rule['match']['source']): string =>
    refs.length === 0 ? 'any' : refs.map((ref) => (ref.kind === 'prefix' ? ref.prefix : ref.group)).join(',');
  const ports = (ranges: Rule['match']['sourcePorts']): string =>
    ranges.length === 0 ? '' : ` :${ranges.map(([lo, hi]) => (lo === hi ? lo : `${lo}-${hi}`)).join(',')}`;
  const protocol = match.protocol === null ? 'any' : protocolName(match.protocol);
  return `${protocol} ${side(match.source)}${ports(match.sourcePorts)} → ${side(match.destination)}${ports(match.destinationPorts)}`;
}

const RULE_COLUMNS: readonly Column<RuleRow>[] = [
  ['PRIORITY', (row) => row.priority],
  ['RULE', (row) => row.name],
  ['VRF', (row) => row.vrf],
  ['MATCH', (row) => row.match],
  ['APPLIED TO', (row) => (row.appliedTo.length === 0 ? 'all' : row.appliedTo)],
  ['ACTION', (row) => (row.unresolved ? `${row.action} (unresolved)` : row.action)],
  ['PACKETS', (row) => row.packets],
  ['BYTES', (row) => row.bytes],
];

export const rulesResource: Resource = {
  summary: 'rules, highest priority first, with what gateways counted',
  filters: ['chain', 'gateway'],
  load: async ({ cluster, filters, current }) => {
    const counters = await askAll(
      instancesAt(cluster, 'tunnel-gw', filters.gateway),
      GatewayClient,
      (client) => askOnce(client.getCounters.bind(client), {}),
    );
    const counted = counters.answers.flatMap(({ answer }) => answer.rules);
    const sum = (name: string, of: 'packets' | 'bytes'): number =>
      counted.filter((row) => row.name === name).reduce((total, row) => total + Number(row[of]), 0);
    const chains = new Set(current?.intent.chains.map(({ name }) => name));
    const rows = (current?.intent.rules ?? [])
      .filter(
        ({ action }) =>
          filters.chain === undefined || (action.kind === 'chain' && action.chain === filters.chain),
      )
      .map((rule): RuleRow => {
        const { action } = rule;
        return {
          name: rule.name,
          number: current?.numbers.rules[rule.name] ?? null,
          priority: rule.priority,
          vrf: rule.match.vrf,
          match: matchText(rule),
          appliedTo: rule.appliedTo.map((ref) => `${ref.gateway}/${ref.port}`),
          action: action.kind === 'chain' ? `chain: ${action.chain}` : action.kind,
          level: rule.level ?? null,
          redirectionId:
            action.kind === 'chain'
              ? (current?.numbers.chains[chainKey(levelledName(action.chain, rule.level), rule.match.vrf)] ??
                null)
              : null,
          unresolved: action.kind === 'chain' && !chains.has(action.chain),
          packets: sum(rule.name, 'packets'),
          bytes: sum(rule.name, 'bytes'),
        };
      });
    return { view: viewRows(rows, RULE_COLUMNS), missing: counters.missing };
  },
};
