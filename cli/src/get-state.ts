// SPDX-License-Identifier: Apache-2.0
/** `get nodes|alarms|gateways`: what the state bucket says, with what running gateways add. */
import { GatewayClient, type NodeStatus, parseStateKey, stateKey } from '@detour/contracts';
import { nodeKey, type ServiceNode, vrfsOfNode } from '@detour/intent';
import { askAll, askOnce, instancesAt } from './ask.js';
import type { Cluster } from './cluster.js';
import { healthName } from './get-live.js';
import { type Column, formatAge, viewRows } from './render.js';
import type { Query, Resource } from './resource.js';
import { gatewaysOf, readGatewayValue } from './wait.js';

/** A member of a value of the bucket, if the value has it with that type. */
export function member<T>(value: unknown, key: string, is: (inner: unknown) => inner is T): T | null {
  if (typeof value !== 'object' || value === null) return null;
  const inner: unknown = Reflect.get(value, key);
  return is(inner) ? inner : null;
}
export const isText = (value: unknown): value is string => typeof value === 'string';
export const isNumber = (value: unknown): value is number => typeof value === 'number';
export const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';

/** True when a node is drained: it gets no new flows. */
export function isDrained(cluster: Cluster, node: string): boolean {
  return member(cluster.mirror.get(stateKey.drain(node))?.value, 'draining', isBoolean) ?? false;
}

/** True when a gateway is drained: routers are told to leave it. */
export function isGatewayDrained(cluster: Cluster, gateway: string): boolean {
  return member(cluster.mirror.get(stateKey.gatewayDrain(gateway))?.value, 'draining', isBoolean) ?? false;
}

interface NodeHealthRow {
  readonly gateway: string;
  readonly vrf: string;
  readonly state: string;
  readonly source: string;
  readonly why: string;
}

function healthOf(cluster: Cluster, node: string): NodeHealthRow[] {
  return cluster.mirror.entries('health.').flatMap(({ key, value }) => {
    const parsed = parseStateKey(key);
    if (parsed?.kind !== 'health' || parsed.node !== node) return [];
    const state = member(value, 'state', isText) ?? 'unknown';
    const source = member(value, 'source', isText) ?? '';
    return [
      { gateway: parsed.gateway, vrf: parsed.vrf, state, source, why: member(value, 'why', isText) ?? '' },
    ];
  });
}

function attachText({ attach }: ServiceNode): string {
  switch (attach.kind) {
    case 'tunnel':
      return `${attach.protocol} ${attach.remote}`;
    case 'l2pair':
      return `l2pair ${attach.a.device}+${attach.b.device}`;
    case 'l3':
      return `l3 ${attach.nextHop}`;
    case 'gwlb':
      return `gwlb ${attach.remote}`;
    case 'plane':
      return `plane ${attach.host} ${attach.format}`;
  }
}

function nodeAt(gateway: string, node: NodeStatus) {
  return {
    gateway,
    health: healthName(node.health),
    source: node.source,
    why: node.why,
    device: node.device,
    hopReady: node.hopReady,
    hopWhy: node.hopWhy,
    toPackets: Number(node.toPackets),
    toBytes: Number(node.toBytes),
    fromPackets: Number(node.fromPackets),
    fromBytes: Number(node.fromBytes),
    flows: Number(node.flows),
  };
}

async function loadNodes({ cluster, filters, current }: Query) {
  const { answers, missing } = await askAll(
    instancesAt(cluster, 'tunnel-gw', filters.gateway),
    GatewayClient,
    (client) => askOnce(client.getStatus.bind(client), {}),
  );
  const rows = (current?.intent.nodes ?? [])
    .filter((node) => filters.node === undefined || node.name === filters.node)
    .map((node) => {
      const score = cluster.mirror.get(stateKey.score(node.name))?.value;
      return {
        name: node.name,
        number: current?.numbers.nodes[nodeKey(node, vrfsOfNode(node)[0] ?? '')] ?? null,
        service: node.service,
        attach: attachText(node),
        vrfs: vrfsOfNode(node),
        capacity: node.capacity,
        priority: node.priority,
        draining: isDrained(cluster, node.name),
        score: member(score, 'score', isNumber),
        fresh: member(score, 'fresh', isBoolean),
        health: healthOf(cluster, node.name),
        gateways: answers.flatMap(({ instance, answer }) =>
          answer.nodes
            .filter(({ name }) => name === node.name || name.startsWith(`${node.name}@`))
            .map((status) => nodeAt(instance.gateway, status)),
        ),
      };
    });
  return { rows, missing };
}

type NodeRow = Awaited<ReturnType<typeof loadNodes>>['rows'][number];

/** What each gateway says of the node's health: its own word where it answers, else the copy in the bucket. */
function healthCell(row: NodeRow): string[] {
  const live = row.gateways.map(({ gateway, health, why, hopReady, hopWhy }) => {
    const reason = why !== '' ? why : hopReady ? '' : hopWhy;
    return { gateway, text: reason === '' || health === 'up' ? health : `${health} (${reason})` };
  });
  const copies = row.health
    .filter(({ gateway }) => !live.some((one) => one.gateway === gateway))
    .map(({ gateway, state, why }) => ({
      gateway,
      text: why === '' || state === 'up' ? state : `${state} (${why})`,
    }));
  return [...live, ...copies].map(({ gateway, text }) => `${gateway}: ${text}`);
}

const NODE_COLUMNS: readonly Column<NodeRow>[] = [
  ['NODE', (row) => row.name],
  ['SERVICE', (row) => row.service],
  ['ATTACH', (row) => row.attach],
  ['VRFS', (row) => row.vrfs],
  ['HEALTH', healthCell],
  [
    'SCORE',
    (row) =>
      row.score === null ? null : `${Number(row.score.toFixed(2))}${row.fresh === false ? ' (stale)' : ''}`,
  ],
  ['DRAINED', (row) => row.draining],
  ['FLOWS', (row) => row.gateways.reduce((sum, { flows }) => sum + flows, 0)],
];

export const nodesResource: Resource = {
  summary: 'nodes: health at each gateway, score, drain, flows',
  filters: ['gateway', 'node'],
  load: async (query) => {
    const { rows, missing } = await loadNodes(query);
    return { view: viewRows(rows, NODE_COLUMNS), missing };
  },
};

/** An alarm that is raised now. */
export interface AlarmRow {
  readonly source: string;
  readonly code: string;
  readonly subject: string;
  readonly text: string;
  readonly sinceMs: number;
}

/** Alarms that are raised now, oldest first. */
export function activeAlarms(cluster: Cluster): AlarmRow[] {
  const rows = cluster.mirror.entries('alarm.').flatMap(({ key, value }): AlarmRow[] => {
    const parsed = parseStateKey(key);
    if (parsed?.kind !== 'alarm' || member(value, 'active', isBoolean) !== true) return [];
    const { source, code, subject } = parsed;
    return [
      {
        source,
        code,
        subject,
        text: member(value, 'text', isText) ?? '',
        sinceMs: member(value, 'sinceMs', isNumber) ?? 0,
      },
    ];
  });
  return rows.sort((a, b) => a.sinceMs - b.sinceMs);
}

const ALARM_COLUMNS: readonly Column<AlarmRow>[] = [
  ['ALARM', (row) => row.code],
  ['SUBJECT', (row) => row.subject],
  ['RAISED BY', (row) => row.source],
  ['SINCE', (row) => `${formatAge(Date.now() - row.sinceMs)} ago`],
  ['TEXT', (row) => row.text],
];

export const alarmsResource: Resource = {
  summary: 'alarms that are raised now',
  filters: [],
  load: async ({ cluster }) => ({
    view: viewRows(activeAlarms(cluster), ALARM_COLUMNS, 'no alarm is raised'),
    missing: [],
  }),
};

/** A gateway or host: what it runs. */
export interface GatewayRow {
  readonly name: string;
  readonly kind: 'gateway' | 'host' | 'unknown';
  readonly registered: boolean;
  readonly address: string;
  readonly running: number;
  readonly refused: number;
  readonly why: string;
  readonly draining: boolean;
}

/** Gateways and hosts of the intent, and those that registered themselves without being in it. */
export function gatewayRows({ cluster, current }: Pick<Query, 'cluster' | 'current'>): GatewayRow[] {
  const instances = cluster.instances('tunnel-gw');
  const declared = current === null ? [] : gatewaysOf(current.intent);
  const names = [...new Set([...declared, ...instances.map(({ gateway }) => gateway)])].sort();
  return names.map((name): GatewayRow => {
    const instance = instances.find(({ gateway }) => gateway === name);
    const value = readGatewayValue(cluster.mirror.get(stateKey.gateway(name))?.value);
    const isHost = current?.intent.hosts.some((host) => host.name === name) ?? false;
    const kind = isHost ? 'host' : declared.includes(name) ? 'gateway' : 'unknown';
    return {
      name,
      kind,
      registered: instance !== undefined,
      address: instance?.address ?? '',
      running: value?.running ?? 0,
      refused: value?.refused ?? 0,
      why: value?.why ?? '',
      draining: isGatewayDrained(cluster, name),
    };
  });
}

const GATEWAY_COLUMNS: readonly Column<GatewayRow>[] = [
  ['GATEWAY', (row) => row.name],
  ['KIND', (row) => (row.kind === 'unknown' ? 'not in the intent' : row.kind)],
  ['REGISTERED', (row) => row.registered],
  ['ADDRESS', (row) => row.address],
  ['RUNNING', (row) => (row.running === 0 ? null : row.running)],
  ['REFUSED', (row) => (row.refused === 0 ? null : row.refused)],
  ['WHY', (row) => row.why],
  ['DRAINED', (row) => row.draining],
];

export const gatewaysResource: Resource = {
  summary: 'gateways and hosts: which revision each runs, or why not; drain',
  filters: [],
  load: async (query) => ({ view: viewRows(gatewayRows(query), GATEWAY_COLUMNS), missing: [] }),
};
