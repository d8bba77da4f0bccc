// SPDX-License-Identifier: Apache-2.0
/** Everything that the failover's act is played on. */
import { cpSync } from 'node:fs';
import { type Firewall, openFirewall } from '../../firewall.js';
import type { GatewayMachines } from '../../gateway-machine.js';
import { createLab } from '../../lab.js';
import { startStack } from '../../stack.js';
import { startTraffic, type TrafficAgent } from '../../traffic.js';
import { startGatewayRouters, twoGateways, twoGatewaysLab } from '../../two-gateways.js';
import { type Detour, openDetour } from '../detour.js';
import type { Narrator } from '../narrator.js';

export interface FailoverStage extends GatewayMachines {
  readonly detour: Detour;
  readonly traffic: TrafficAgent;
  readonly firewalls: readonly Firewall[];
  readonly signal: AbortSignal;
  saveLogs(dir: string): void;
}

export const FIREWALLS = 3;
/** Sooner than people notice, later than a busy machine delays a packet. */
export const bfd = { intervalMs: 100, multiplier: 5 } as const;

/** Raises all of it; closing `lab` ends all of it. @throws Fault; nothing is left running then. */
export async function raiseFailoverStage(
  name: string,
  tell: Narrator,
  signal: AbortSignal,
): Promise<FailoverStage> {
  const lab = await tell.during('raising two gateways between two routers, and three firewalls', () =>
    createLab(twoGatewaysLab({ firewalls: FIREWALLS, bfd }), { name, signal }),
  );
  try {
    signal.throwIfAborted();
    const routers = await tell.during('starting FRR on routers and gateways', () => startGatewayRouters(lab));
    signal.throwIfAborted();
    const stack = await tell.during('starting NATS, Redis and the services', () =>
      startStack(lab, { gateways: twoGateways }),
    );
    signal.throwIfAborted();
    return {
      ...{ lab, stack, routers, signal },
      detour: openDetour(stack),
      traffic: startTraffic(lab, 'client'),
      firewalls: Array.from({ length: FIREWALLS }, (_, i) => openFirewall(lab, `fw${i + 1}`)),
      saveLogs: (dir) => cpSync(lab.logDir, dir, { recursive: true }),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
