// SPDX-License-Identifier: Apache-2.0
/** `get ports|drops|flows|sessions`: what running gateways and their bfd say. */
import { BfdClient, GatewayClient, HealthState, type TupleMessage } from '@detour/contracts';
import { Fault, formatAddress, parseAddress } from '@detour/core';
import { protocolName } from '@detour/intent';
import { askAll, askOnce, askRows, instancesAt } from './ask.js';
import { type Column, formatAge, viewRows } from './render.js';
import { nameOf, type Query, type Resource } from './resource.js';

const HEALTH_NAMES: Readonly<Record<HealthState, string>> = {
  [HealthState.UNSPECIFIED]: 'unknown',
  [HealthState.UP]: 'up',
  [HealthState.DOWN]: 'down',
  [HealthState.ADMIN_DOWN]: 'admin-down',
  [HealthState.UNKNOWN]: 'unknown',
  [HealthState.STALE]: 'stale',
};

/** A health state as people write it. */
export function healthName(state: HealthState): string {
  return HEALTH_NAMES[state];
}

/** An end point as text: `10.0.0.1:80`, `[2001:db8::1]:80`. */
function endPoint(address: Uint8Array, port: number): string {
  const text = address.length === 16 ? formatAddress(address) : '?';
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}

/** The members of a tuple by name, addresses as text. */
export function tupleFields(
  tuple: TupleMessage | undefined,
  vrfs: Readonly<Record<string, number>> | undefined,
) {
  const bytes = (address: Uint8Array | undefined): string =>
    address !== undefined && address.length === 16 ? formatAddress(address) : '';
  return {
    vrf: nameOf(vrfs, tuple?.vrf ?? 0),
    protocol: protocolName(tuple?.proto ?? 0),
    source: bytes(tuple?.src),
    sourcePort: tuple?.sport ?? 0,
    destination: bytes(tuple?.dst),
    destinationPort: tuple?.dport ?? 0,
  };
}

const askGateways = <T>({ cluster, filters }: Query, use: (client: GatewayClient) => Promise<T>) =>
  askAll(instancesAt(cluster, 'tunnel-gw', filters.gateway), GatewayClient, use);

async function loadPorts(query: Query) {
  const { answers, missing } = await askGateways(query, async (client) => ({
    status: await askOnce(client.getStatus.bind(client), {}),
    counters: await askOnce(client.getCounters.bind(client), {}),
  }));
  const rows = answers.flatMap(({ instance, answer }) =>
    answer.status.ports.map((port) => {
      const counted = answer.counters.ports.find((row) => row.name === port.name);
      return {
        gateway: instance.gateway,
        name: port.name,
        number: port.number,
        kind: port.kind,
        device: port.device,
        vrf: port.vrf,
        classify: port.classify,
        attachMode: port.attachMode,
        why: port.why,
        rxPackets: Number(counted?.rxPackets ?? 0),
        rxBytes: Number(counted?.rxBytes ?? 0),
        forwarded: Number(counted?.forwarded ?? 0),
        passed: Number(counted?.passed ?? 0),
        punted: Number(counted?.punted ?? 0),
        dropped: Number(counted?.dropped ?? 0),
        ruleLookups: Number(counted?.ruleLookups ?? 0),
      };
    }),
  );
  return { rows, missing };
}

type PortRow = Awaited<ReturnType<typeof loadPorts>>['rows'][number];
const PORT_COLUMNS: readonly Column<PortRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['PORT', (row) => row.name],
  ['KIND', (row) => row.kind],
  ['DEVICE', (row) => row.device],
  ['VRF', (row) => row.vrf],
  ['CLASSIFY', (row) => row.classify],
  [
    'ATTACHED',
    (row) =>
      row.why === '' ? row.attachMode : `${row.attachMode === '' ? 'no' : row.attachMode}: ${row.why}`,
  ],
  ['RX', (row) => row.rxPackets],
  ['FORWARDED', (row) => row.forwarded],
  ['PASSED', (row) => row.passed],
  ['PUNTED', (row) => row.punted],
  ['DROPPED', (row) => row.dropped],
];

export const portsResource: Resource = {
  summary: 'ports of running gateways: how they are attached, and what they counted',
  filters: ['gateway'],
  load: async (query) => {
    const { rows, missing } = await loadPorts(query);
    return { view: viewRows(rows, PORT_COLUMNS), missing };
  },
};

interface DropRow {
  readonly gateway: string;
  readonly reason: string;
  readonly packets: number;
  /** The last packet of this kind that was sampled. */
  readonly example:
    | (ReturnType<typeof tupleFields> & { readonly port: string; readonly agoMs: number })
    | null;
}

const DROP_COLUMNS: readonly Column<DropRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['REASON', (row) => row.reason],
  ['PACKETS', (row) => row.packets],
  [
    'EXAMPLE',
    ({ example: e }) =>
      e === null
        ? null
        : `${e.protocol} ${e.source}:${e.sourcePort} → ${e.destination}:${e.destinationPort} by ${e.port}, ${formatAge(e.agoMs)} ago`,
  ],
];

export const dropsResource: Resource = {
  summary: 'dropped packets by reason, each with an example',
  filters: ['gateway'],
  load: async (query) => {
    const { answers, missing } = await askGateways(query, (client) =>
      askOnce(client.getCounters.bind(client), {}),
    );
    const rows = answers.flatMap(({ instance, answer }) =>
      Object.entries(answer.drops)
        .filter(([, packets]) => Number(packets) > 0)
        .map(([reason, packets]): DropRow => {
          const example = answer.examples.find((row) => row.reason === reason);
          const tuple = { ...tupleFields(example?.tuple, query.current?.numbers.vrfs) };
          const sample =
            example === undefined ? null : { ...tuple, port: example.port, agoMs: Number(example.agoMs) };
          return { gateway: instance.gateway, reason, packets: Number(packets), example: sample };
        })
        .sort((a, b) => b.packets - a.packets),
    );
    return { view: viewRows(rows, DROP_COLUMNS, 'no packet was dropped'), missing };
  },
};

async function loadFlows(query: Query) {
  const { filters } = query;
  const address = filters.address === undefined ? new Uint8Array() : parseAddress(filters.address);
  if (address === null)
    throw new Fault('invalid', `--address ${filters.address} is no IP address: give one such as 10.0.0.1`);
  const request = {
    node: filters.node ?? '',
    path: filters.path ?? '',
    chain: filters.chain ?? '',
    vrf: filters.vrf ?? '',
    limit: filters.limit ?? 0,
    address,
  };
  const { answers, missing } = await askGateways(query, (client) => askRows(client.getFlows(request)));
  const notes = answers.flatMap(({ instance, answer }) => {
    const more = answer.at(-1)?.leftOut ?? 0n;
    const remedy = 'raise --limit, or narrow with --node, --path, --chain, --vrf or --address';
    return more === 0n ? [] : [`${instance.gateway}: ${more} more flows match and are not shown: ${remedy}`];
  });
  const rows = answers.flatMap(({ instance, answer }) =>
    answer
      .filter(({ leftOut }) => leftOut === 0n)
      .map((flow) => ({
        gateway: instance.gateway,
        ...tupleFields(flow.tuple, query.current?.numbers.vrfs),
        action: flow.action,
        rule: flow.rule,
        chain: flow.chain,
        path: flow.path,
        nodes: flow.nodes,
        port: flow.port,
        packetsForward: Number(flow.packetsForward),
        packetsReverse: Number(flow.packetsReverse),
        bytesForward: Number(flow.bytesForward),
        bytesReverse: Number(flow.bytesReverse),
        ageMs: Number(flow.ageMs),
        idleMs: Number(flow.idleMs),
        established: flow.established,
        decidedBy: flow.decidedBy,
        pinGen: flow.pinGen,
        snat: flow.snat,
      })),
  );
  return { rows, missing, notes };
}

type FlowRow = Awaited<ReturnType<typeof loadFlows>>['rows'][number];
const FLOW_COLUMNS: readonly Column<FlowRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['VRF', (row) => row.vrf],
  ['PROTO', (row) => row.protocol],
  ['SOURCE', (row) => endPointText(row.source, row.sourcePort)],
  ['DESTINATION', (row) => endPointText(row.destination, row.destinationPort)],
  ['SNAT', (row) => row.snat],
  ['ACTION', (row) => row.action],
  ['RULE', (row) => row.rule],
  ['PATH', (row) => (row.path === 0 ? null : row.path)],
  ['NODES', (row) => row.nodes.join(' → ')],
  ['PACKETS', (row) => `${row.packetsForward}/${row.packetsReverse}`],
  ['AGE', (row) => formatAge(row.ageMs)],
  ['IDLE', (row) => formatAge(row.idleMs)],
];

function endPointText(address: string, port: number): string {
  const bytes = parseAddress(address);
  return bytes === null ? `?:${port}` : endPoint(bytes, port);
}

export const flowsResource: Resource = {
  summary: 'flows: which rule and nodes handle each (at most --limit of each gateway, default 1000)',
  filters: ['gateway', 'node', 'path', 'chain', 'vrf', 'address', 'limit'],
  load: async (query) => {
    const { rows, missing, notes } = await loadFlows(query);
    return { view: viewRows(rows, FLOW_COLUMNS), missing, notes };
  },
};

async function loadSessions({ cluster, filters }: Query) {
  const instances = instancesAt(cluster, 'bfd', filters.gateway);
  const { answers, missing } = await askAll(instances, BfdClient, (client) =>
    askOnce(client.listSessions.bind(client), {}),
  );
  const rows = answers.flatMap(({ instance, answer }) =>
    answer.sessions
      .filter((session) => filters.node === undefined || session.node === filters.node)
      .map((session) => ({ gateway: instance.gateway, ...session, health: healthName(session.health) })),
  );
  return { rows, missing };
}

type SessionRow = Awaited<ReturnType<typeof loadSessions>>['rows'][number];
const SESSION_COLUMNS: readonly Column<SessionRow>[] = [
  ['GATEWAY', (row) => row.gateway],
  ['SESSION', (row) => row.id],
  ['DEVICE', (row) => row.device],
  ['LOCAL', (row) => row.local],
  ['PEER', (row) => row.peer],
  ['HEALTH', (row) => row.health],
  [
    'STATE',
    (row) => (row.control ? `${row.state} (peer ${row.remoteState === '' ? '?' : row.remoteState})` : null),
  ],
  ['ECHO', (row) => (row.echo ? (row.echoUp ? 'up' : 'down') : null)],
  ['ROUTE', (row) => (row.route === '' ? null : row.route)],
  ['TX', (row) => `${Number(row.txIntervalUs) / 1000}ms`],
  ['DETECT', (row) => `${Number(row.detectTimeUs) / 1000}ms`],
  ['UPS/DOWNS', (row) => `${row.ups}/${row.downs}`],
  ['SOURCE', (row) => row.source],
  ['WHY', (row) => row.why],
];

export const sessionsResource: Resource = {
  summary: 'BFD and echo sessions with nodes, and the routes they advertise',
  filters: ['gateway', 'node'],
  load: async (query) => {
    const { rows, missing } = await loadSessions(query);
    return { view: viewRows(rows, SESSION_COLUMNS), missing };
  },
};
