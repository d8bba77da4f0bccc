// SPDX-License-Identifier: Apache-2.0
/** What can befall one of two gateways, and where each connection is as the firewalls know it. */
import { MARKER_ROUTE_PROTOCOL } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { Firewall } from './firewall.js';
import type { Lab } from './lab.js';
import type { Stack } from './stack.js';
import type { GatewayRouters } from './two-gateways.js';

export interface GatewayMachines {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly routers: GatewayRouters;
}

/** Of a gateway's service in a stack of `twoGateways`. */
export function processOf(service: 'tunnel-gw' | 'bfd', gateway: string): string {
  return gateway === 'edge1' ? service : `${service}@${gateway}`;
}

/** SIGKILL to everything that runs on the machine, and every link of it down; what its kernel told the routing daemon ends with the machine. */
export async function killGateway({ lab, stack, routers }: GatewayMachines, gateway: string): Promise<void> {
  await Promise.all([
    ...(['tunnel-gw', 'bfd'] as const).map((service) => stack.kill(processOf(service, gateway))),
    ...['zebra', 'bgpd'].map((daemon) => lab.process(gateway, daemon).kill()),
    routers.unplug(gateway),
  ]);
  await lab.exec(gateway, ['ip', 'route', 'flush', 'proto', String(MARKER_ROUTE_PROTOCOL)]);
}

/** Links and services as before. Its routing begins when `isServing` resolves: records and health first, then traffic. */
export async function reviveGateway(
  { stack, routers }: GatewayMachines,
  gateway: string,
  isServing: () => Promise<void>,
): Promise<void> {
  await routers.plugIn(gateway);
  for (const service of ['bfd', 'tunnel-gw'] as const) await stack.start(processOf(service, gateway));
  await isServing();
  await routers.startAgain(gateway);
}

/**
 * The firewall of each established TCP connection, by the client's address and port: `10.1.0.10:40000`.
 * @throws Fault `internal` when two of them know one.
 */
export async function firewallOfEach(firewalls: readonly Firewall[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const firewall of firewalls)
    for (const { source, sourcePort } of await firewall.conntrack({
      protocol: 'tcp',
      state: 'ESTABLISHED',
    })) {
      const key = `${source}:${sourcePort}`;
      if (found.has(key))
        throw new Fault('internal', `${key} is known to ${found.get(key)} and to ${firewall.name}`);
      found.set(key, firewall.name);
    }
  return found;
}

/** Packets that firewalls dropped since they began, of connections that they did not see begin. */
export async function firewallRefusals(firewalls: readonly Firewall[]): Promise<number> {
  const counted = await Promise.all(firewalls.map((firewall) => firewall.counters()));
  return counted.reduce(
    (sum, { invalid, not_syn }) => sum + (invalid?.packets ?? 0) + (not_syn?.packets ?? 0),
    0,
  );
}
