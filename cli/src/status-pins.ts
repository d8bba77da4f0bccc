// SPDX-License-Identifier: Apache-2.0
/** How gateways stand with their flows, Redis and routers: what each says of itself when asked. */
import { GatewayClient, type GatewayStatus } from '@detour/contracts';
import { askAll, askOnce } from './ask.js';
import type { Cluster } from './cluster.js';
import { renderTable } from './render.js';

/** Counts are since tunnel-gw began, `flows`, `pins` and `notInRedis` as of its last sweep. */
export interface PinsRow {
  readonly gateway: string;
  readonly redis: boolean;
  readonly flows: number;
  /** Established flows that the gateway's table holds at most. */
  readonly flowsLimit: number;
  readonly pins: number;
  readonly notInRedis: number;
  /** For how long every sweep has followed a write that failed. */
  readonly behindMs: number;
  /** Batches and re-pins that are on their way or wait for it. */
  readonly waiting: number;
  readonly notWritten: number;
  /** Re-pins that found a better pin, and flows that go another gateway's way. */
  readonly conflicts: number;
  readonly adopted: number;
  readonly decided: Readonly<Record<string, number>>;
  /** To routers: yes, or why not; empty where nothing is asked for, or bfd has not said. */
  readonly announced: string;
}

/** Of all gateways that answer; who does not is named. */
export async function pinsOf(
  cluster: Cluster,
): Promise<{ readonly rows: readonly PinsRow[]; readonly missing: readonly string[] }> {
  const { answers, missing } = await askAll(cluster.instances('tunnel-gw'), GatewayClient, (client) =>
    askOnce(client.getStatus.bind(client), {}),
  );
  return { rows: answers.map(({ instance, answer }) => pinsRow(instance.gateway, answer)), missing };
}

function pinsRow(gateway: string, { figures, decided, connected, announced }: GatewayStatus): PinsRow {
  const figure = (...names: string[]) => names.reduce((sum, name) => sum + Number(figures[name] ?? 0n), 0);
  return {
    gateway,
    redis: connected.redis === true,
    flows: figure('flows'),
    flowsLimit: figure('flows-limit'),
    pins: figure('pinned'),
    notInRedis: figure('unrecorded'),
    behindMs: figure('redis-behind-ms'),
    waiting: figure('redis-repins-waiting', 'redis-batches-waiting'),
    notWritten: figure('redis-not-written', 'redis-not-refreshed'),
    conflicts: figure('redis-conflicts'),
    adopted: figure('redis-adopted'),
    decided: Object.fromEntries(Object.entries(decided).map(([by, count]) => [by, Number(count)])),
    announced,
  };
}

/** The rows as a table. */
export function renderPins(rows: readonly PinsRow[]): string {
  return renderTable<PinsRow>(
    [
      ['GATEWAY', (row) => row.gateway],
      ['REDIS', (row) => (row.redis ? 'answers' : 'AWAY')],
      ['FLOWS', (row) => `${row.flows}/${row.flowsLimit}`],
      ['PINS', (row) => row.pins],
      ['NOT IN REDIS', (row) => row.notInRedis],
      ['BEHIND', (row) => (row.behindMs === 0 ? null : `${Math.ceil(row.behindMs / 1_000)}s`)],
      ['WAITING', (row) => row.waiting],
      ['NOT WRITTEN', (row) => row.notWritten],
      ['CONFLICTS', (row) => row.conflicts],
      ['ADOPTED', (row) => row.adopted],
      [
        'DECIDED',
        (row) =>
          Object.entries(row.decided)
            .map(([by, count]) => `${by} ${count}`)
            .join(', '),
      ],
      ['ANNOUNCED', (row) => row.announced || null],
    ],
    rows,
    'no gateway answers',
  );
}
