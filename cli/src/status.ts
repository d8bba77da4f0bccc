// SPDX-License-Identifier: Apache-2.0
/** `detour status`: what runs, what is in force where, and what is wrong, on one page. */
import { watchInstances } from '@detour/bus';
import { SERVICE_NAMES, type ServiceName } from '@detour/contracts';
import { systemClock } from '@detour/core';
import type { Revision } from '@detour/intent';
import type { Cluster } from './cluster.js';
import { type AlarmRow, activeAlarms, type GatewayRow, gatewayRows } from './get-state.js';
import { formatAge, renderTable, type View } from './render.js';
import { type PinsRow, pinsOf, renderPins } from './status-pins.js';

interface ServiceRow {
  readonly service: ServiceName;
  readonly id: string;
  readonly gateway: string;
  readonly address: string;
  /** host:port of /metrics, /ready and /healthz. */
  readonly metrics: string;
  readonly startedMs: number;
}

/** What `status -o json` gives. */
export interface StatusReport {
  /** True when nothing below is missing and no alarm is raised. */
  readonly healthy: boolean;
  readonly problems: readonly string[];
  readonly revision: { readonly revision: number; readonly author: string; readonly at: string } | null;
  readonly services: readonly ServiceRow[];
  readonly gateways: readonly GatewayRow[];
  /** Flows, and how gateways stand with Redis; of those that answer. */
  readonly pins: readonly PinsRow[];
  readonly alarms: readonly AlarmRow[];
}

function servicesOf(cluster: Cluster): ServiceRow[] {
  return SERVICE_NAMES.flatMap((service) => {
    using instances = watchInstances({ mirror: cluster.mirror, service, clock: systemClock() });
    return instances.list().map(({ id, gateway, address, metrics, startedMs }) => ({
      service,
      id,
      gateway,
      address,
      metrics,
      startedMs,
    }));
  });
}

function problemsOf(report: Pick<StatusReport, 'services' | 'gateways' | 'alarms' | 'revision'>): string[] {
  const { services, gateways, alarms, revision } = report;
  const absent = SERVICE_NAMES.filter((name) => !services.some(({ service }) => service === name));
  const inForce = revision?.revision ?? 0;
  return [
    ...(revision === null ? ['no intent is applied yet: run detour apply -f FILE'] : []),
    ...absent.map((name) => `no ${name} is registered`),
    ...gateways.flatMap((gateway) => {
      if (!gateway.registered) return [`${gateway.name}: no tunnel-gw of this name is registered`];
      if (gateway.refused === inForce && inForce > 0)
        return [`${gateway.name} refused revision ${inForce}: ${gateway.why}`];
      if (gateway.running < inForce)
        return [`${gateway.name} runs revision ${gateway.running}, not ${inForce}`];
      return [];
    }),
    ...alarms.map(
      (alarm) => `alarm ${alarm.code}${alarm.subject === '' ? '' : ` (${alarm.subject})`}: ${alarm.text}`,
    ),
  ];
}

/** Gathers the report from the state bucket, and from gateways. */
export async function statusOf(cluster: Cluster, current: Revision | null): Promise<StatusReport> {
  const pins = await pinsOf(cluster);
  const revision =
    current === null ? null : { revision: current.revision, author: current.author, at: current.at };
  const parts = {
    revision,
    services: servicesOf(cluster),
    gateways: gatewayRows({ cluster, current }),
    pins: pins.rows,
    alarms: activeAlarms(cluster),
  };
  const problems = [...problemsOf(parts), ...pins.missing];
  return { healthy: problems.length === 0, problems, ...parts };
}

/** The report as a page. */
export function viewStatus(report: StatusReport): View {
  const { revision } = report;
  const head =
    revision === null
      ? 'no intent is applied yet'
      : `revision ${revision.revision}, by ${revision.author} at ${revision.at}`;
  const services = renderTable<ServiceRow>(
    [
      ['SERVICE', (row) => row.service],
      ['INSTANCE', (row) => row.id],
      ['GATEWAY', (row) => row.gateway],
      ['ADDRESS', (row) => row.address],
      ['UP FOR', (row) => formatAge(Date.now() - row.startedMs)],
    ],
    report.services,
    'no service is registered',
  );
  const gateways = renderTable<GatewayRow>(
    [
      ['GATEWAY', (row) => row.name],
      ['REGISTERED', (row) => row.registered],
      ['RUNNING', (row) => (row.running === 0 ? null : row.running)],
      ['WHY NOT', (row) => row.why],
    ],
    report.gateways,
    'no gateway is declared',
  );
  const verdict = report.healthy
    ? 'all is well\n'
    : `${report.problems.map((problem) => `! ${problem}\n`).join('')}`;
  return {
    data: report,
    table: [`${head}\n`, services, gateways, renderPins(report.pins), verdict].join('\n'),
  };
}
