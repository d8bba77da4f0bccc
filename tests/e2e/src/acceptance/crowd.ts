// SPDX-License-Identifier: Apache-2.0
/** A crowd in the standard lab: its client side, its server side, and what a lab needs for the addresses that they use. */
import { existsSync, writeFileSync } from 'node:fs';
import { type Lab, type LabSpec, run, standardAddresses, standardTable } from '@detour/lab';
import { startAgent } from './agent-link.js';
import type { AskFlows, AskResult, CrowdReport, CrowdRequest, FlowRange } from './crowd-protocol.js';
import type { CrowdPlace, CrowdRole } from './crowd-wire.js';

const SERVER = '203.0.113.99';
const PORT = 8_007;
export const crowdMacs = {
  client: { ownMac: '02:00:00:01:00:10', gatewayMac: '02:00:00:01:00:01' },
  server: { ownMac: '02:00:00:02:00:09', gatewayMac: '02:00:00:02:00:01' },
} as const;
const CAPACITY = 400_000;

export const crowdServer = { address: SERVER, port: PORT } as const;

export interface CrowdEnd {
  open(flows: AskFlows): Promise<AskResult>;
  ask(flows: AskFlows): Promise<AskResult>;
  stream(flows: FlowRange, pps: number): Promise<void>;
  stop(): Promise<void>;
  report(): Promise<CrowdReport>;
}

export interface Crowd extends AsyncDisposable {
  readonly client: CrowdEnd;
  readonly server: CrowdEnd;
  /**
   * Both sides run on this CPU alone, and so do the programs that their packets meet, for a veth works on where its sender runs: the others
   * are left to the controllers, as on a gateway whose NIC queues are bound to CPUs of their own.
   */
  keepTo(cpu: number): Promise<void>;
  /** Its two sides have a CPU after everybody else, as packets from a wire do not take one from processes: sched(7), nice and autogroup. */
  giveWay(): Promise<void>;
}

/** The lab with routes and neighbours at the gateway for the crowd's addresses, which no kernel owns. */
export function withCrowdAddresses(spec: LabSpec): LabSpec {
  const { edge1 } = spec.namespaces;
  const routes = [
    ...(edge1?.routes ?? []),
    { to: '10.1.16.0/20', via: standardAddresses.client, dev: 'eth1', table: standardTable },
  ];
  const neighbours = [
    { address: standardAddresses.client, mac: crowdMacs.client.ownMac, dev: 'eth1' },
    { address: SERVER, mac: crowdMacs.server.ownMac, dev: 'eth2' },
  ];
  return { ...spec, namespaces: { ...spec.namespaces, edge1: { ...edge1, routes, neighbours } } };
}

/** `spaces`: the namespaces of its two sides. */
export function startCrowd(
  lab: Lab,
  spaces: Readonly<Record<CrowdRole, string>> = { client: 'client', server: 'server' },
): Crowd {
  const start = (role: CrowdRole) => {
    const place: CrowdPlace = { role, ...crowdMacs[role], server: SERVER, port: PORT };
    return startAgent(lab, spaces[role], 'crowd-main', { ...place, device: 'eth0', capacity: CAPACITY });
  };
  const client = start('client');
  const server = start('server');
  const end = (link: typeof client): CrowdEnd => {
    const ask = <T>(request: CrowdRequest) => link.ask<T>(request);
    return {
      open: (flows) => ask({ op: 'open', ...flows }),
      ask: (flows) => ask({ op: 'ask', ...flows }),
      stream: (flows, pps) => ask({ op: 'stream', ...flows, pps }),
      stop: () => ask({ op: 'stop' }),
      report: () => ask({ op: 'report' }),
    };
  };
  return {
    client: end(client),
    server: end(server),
    keepTo: async (cpu) => {
      for (const { pid } of [client, server])
        await run(['taskset', '--all-tasks', '--cpu-list', '--pid', String(cpu), String(pid)]);
    },
    giveWay: async () => {
      for (const { pid } of [client, server]) {
        await run(['renice', '-n', '10', '-p', String(pid)]);
        if (existsSync(`/proc/${pid}/autogroup`)) writeFileSync(`/proc/${pid}/autogroup`, '10');
      }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([client[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
    },
  };
}

/** Packets of all kinds. */
export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
