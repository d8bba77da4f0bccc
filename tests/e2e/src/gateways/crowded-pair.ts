// SPDX-License-Identifier: Apache-2.0
/** Two gateways and a crowd: each side's router spreads it over both, so that many flows go out through one and come back through the other. */
import type { CountersResponse, GatewayStatus, NodeStatus } from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import { type LabSpec, standardAddresses, startForward, waitFor } from '@detour/lab';
import { controllersAt, gatewayLimits, grpcPorts } from '../acceptance/acceptance-lab.js';
import type { Balance, Counted } from '../acceptance/balance.js';
import { openBalance } from '../acceptance/balance.js';
import { type Crowd, crowdMacs, crowdServer, startCrowd } from '../acceptance/crowd.js';
import type { FlowRange } from '../acceptance/crowd-protocol.js';
import { awaitWeights } from '../acceptance/reports.js';
import { type Serving, servingIntent } from '../acceptance/serving-intents.js';
import {
  type GatewayPair,
  type GatewayPairOptions,
  gatewayNames,
  raiseGatewayPair,
} from './pair-of-gateways.js';

const CROWD_NETWORK = '10.1.16.0/20';
/** Clients' router, gateway, node, servers' router: who passed one node arrives with this many hops behind it. */
export const HOPS_BETWEEN_ROUTERS = 4;

export interface CrowdedPair extends GatewayPair, Counted {
  readonly crowd: Crowd;
  /** Resolves when both gateways run this intent, and select by these weights where some are given. */
  take(wanted: Serving, weights?: Readonly<Record<string, number>>): Promise<void>;
  /** Publishes it, whoever hears of it. */
  publish(wanted: Serving): Promise<void>;
  /** Of both gateways together. */
  counters(): Promise<CountersResponse>;
  status(): Promise<GatewayStatus>;
  /** Resolves when both gateways select by these weights. */
  awaitWeights(weights: Readonly<Record<string, number>>): Promise<void>;
  awaitWeightsAt(gateway: string, weights: Readonly<Record<string, number>>): Promise<void>;
  /** Resolves when both gateways show these nodes as up (or not up). */
  awaitNodes(names: readonly string[], up: boolean): Promise<void>;
  balance(options?: Parameters<typeof openBalance>[1]): Promise<Balance>;
  reach(port: number, address?: string): Promise<number>;
}

/** With the intent `first` in force. */
export async function raiseCrowdedPair(
  name: string,
  first: Serving,
  options: Pick<GatewayPairOptions, 'firewalls' | 'env'> = {},
): Promise<CrowdedPair> {
  let intentOf = (_: Serving): IntentDocument => ({ apiVersion: 'detour/v1' });
  const pair = await raiseGatewayPair(name, {
    ...options,
    intent: (standard) => {
      intentOf = (wanted) => servingIntent(standard, wanted);
      return intentOf(first);
    },
    spec: withCrowdAddresses,
    inside: [CROWD_NETWORK],
    env: (service, id) => ({
      ...(service === 'stats-collector' && {
        DETOUR_LISTEN: `${controllersAt}:${grpcPorts['stats-collector']}`,
      }),
      ...(service === 'tunnel-gw' && gatewayLimits),
      ...(service === 'path-selector' && { DETOUR_REDIS_BUDGET: '1s' }),
      ...options.env?.(service, id),
    }),
  });
  const crowd = startCrowd(pair.lab);
  const open: AsyncDisposable[] = [pair, crowd];
  const views = gatewayNames.map((gateway) => pair.at(gateway));
  const crowded: CrowdedPair = {
    ...{ ...pair, crowd },
    async take(wanted, weights) {
      await pair.apply(intentOf(wanted));
      if (weights !== undefined) await crowded.awaitWeights(weights);
    },
    async publish(wanted) {
      const { code, stderr } = await pair.stack.cli(['apply', '-f', '-'], {
        input: JSON.stringify(intentOf(wanted)),
      });
      if (code !== 0) throw new Error(`apply: exit code ${code}: ${stderr}`);
    },
    async counters() {
      const all = await Promise.all(views.map((view) => view.counters()));
      return {
        drops: sums(all.map(({ drops }) => drops)),
        stats: sums(all.map(({ stats }) => stats)),
        ports: all.flatMap(({ ports }) => ports),
        rules: all.flatMap(({ rules }) => rules),
        examples: all.flatMap(({ examples }) => examples),
      };
    },
    async status() {
      const [first, ...others] = await Promise.all(views.map((view) => view.status()));
      if (first === undefined) throw new TypeError('there are no gateways');
      const all = [first, ...others];
      const nodes = first.nodes.map((node) =>
        together(
          all.flatMap((one) => one.nodes),
          node,
        ),
      );
      return { ...first, nodes, decided: sums(all.map(({ decided }) => decided)) };
    },
    awaitWeightsAt: (gateway, weights) => awaitWeights(pair.at(gateway), weights),
    async awaitWeights(weights) {
      for (const view of views) await awaitWeights(view, weights);
    },
    async awaitNodes(names, up) {
      const isSo = async (): Promise<boolean> => {
        const all = await Promise.all(views.map(async (view) => (await view.tables()).policies));
        return all.every((rows) =>
          names.every((node) => rows.some((row) => row.path === node && (row.bfd === 'up') === up)),
        );
      };
      const what = `${names.join(', ')} to be ${up ? 'up' : 'not up'} at both gateways`;
      await waitFor(isSo, { what, timeoutMs: 30_000, everyMs: 25 });
    },
    balance: (given) => openBalance(crowded, given),
    async reach(port, address = controllersAt) {
      const forward = await startForward(pair.lab, 'mgmt', { address, port });
      open.push(forward);
      return forward.port;
    },
    [Symbol.asyncDispose]: async () => {
      for (const one of open.reverse()) await one[Symbol.asyncDispose]();
    },
  };
  return crowded;
}

/** Ranges of flows, one after the other, as TCP or UDP. */
export function numberFlows(): <P extends 'tcp' | 'udp'>(
  count: number,
  proto: P,
) => FlowRange & { readonly proto: P } {
  let next = 0;
  return (count, proto) => {
    next += count;
    return { first: next - count, count, proto };
  };
}

/**
 * Routes and neighbours at the routers for the crowd's addresses, which no kernel owns. The kernel's hash over addresses and ports is the same
 * for both directions, where a packet does not carry the random one of a socket: so the servers' router spreads by addresses alone.
 */
function withCrowdAddresses(spec: LabSpec): LabSpec {
  const { rin, rout } = spec.namespaces;
  const routes = [{ to: CROWD_NETWORK, via: standardAddresses.client, dev: 'eth0' }];
  const client = { address: standardAddresses.client, mac: crowdMacs.client.ownMac, dev: 'eth0' };
  const server = { address: crowdServer.address, mac: crowdMacs.server.ownMac, dev: 'eth0' };
  return {
    ...spec,
    namespaces: {
      ...spec.namespaces,
      rin: { ...rin, routes, neighbours: [client] },
      rout: {
        ...{ ...rout, neighbours: [server] },
        sysctls: { ...rout?.sysctls, 'net.ipv4.fib_multipath_hash_policy': 0 },
      },
    },
  };
}

function sums(all: readonly Readonly<Record<string, bigint>>[]): Record<string, bigint> {
  const sum: Record<string, bigint> = {};
  for (const counts of all)
    for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0n) + count;
  return sum;
}

/** Packets of one node by way of every gateway. */
function together(rows: readonly NodeStatus[], node: NodeStatus): NodeStatus {
  const own = rows.filter(({ name }) => name === node.name);
  const toPackets = own.reduce((sum, row) => sum + row.toPackets, 0n);
  const fromPackets = own.reduce((sum, row) => sum + row.fromPackets, 0n);
  return { ...node, toPackets, fromPackets };
}
