// SPDX-License-Identifier: Apache-2.0
/** Everything that the edge's act is played on. */
import { cpSync } from 'node:fs';
import { type Appliance, startAppliance } from '../../appliance.js';
import { type Firewall, openFirewall } from '../../firewall.js';
import { createLab, type Lab } from '../../lab.js';
import { type Stack, startStack } from '../../stack.js';
import { startTraffic, type TrafficAgent } from '../../traffic.js';
import { type Detour, openDetour } from '../detour.js';
import type { Narrator } from '../narrator.js';
import { APPLIANCE, edgeLab, IDS } from './places.js';

export interface EdgeStage {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly detour: Detour;
  readonly red: TrafficAgent;
  readonly blue: TrafficAgent;
  readonly fw1: Firewall;
  readonly appliance: Appliance;
  readonly signal: AbortSignal;
  /** Packets of TCP that crossed the IDS from the office and to it. */
  crossed(): Promise<{ readonly north: number; readonly south: number }>;
  /** The IDS forwards, or does not; its links stay up. */
  bridge(on: boolean): Promise<void>;
  saveLogs(dir: string): void;
}

const GUARDED = ['eth1', 'eth2', 'eth3', 'eth4'];

/** Raises all of it; closing `lab` ends all of it. @throws Fault; nothing is left running then. */
export async function raiseEdgeStage(name: string, tell: Narrator, signal: AbortSignal): Promise<EdgeStage> {
  const lab = await tell.during('raising two tenants, a firewall, an IDS and an appliance', () =>
    createLab(edgeLab(), { name, signal }),
  );
  try {
    signal.throwIfAborted();
    const { ns, address, healthPort } = APPLIANCE;
    const appliance = await startAppliance(lab, ns, address, healthPort);
    const gateway = { name: 'edge1', ns: 'edge1', management: '172.30.0.2', guardDevices: GUARDED };
    const stack = await tell.during('starting NATS, Redis and the five services', () =>
      startStack(lab, { gateways: [gateway] }),
    );
    signal.throwIfAborted();
    return {
      ...{ lab, stack, appliance, signal },
      detour: openDetour(stack),
      red: startTraffic(lab, 'client'),
      blue: startTraffic(lab, 'client-b'),
      fw1: openFirewall(lab, 'fw1'),
      crossed: () => readCounters(lab),
      async bridge(on) {
        const state = on ? 'forwarding' : 'disabled';
        await lab.exec(IDS, ['bridge', 'link', 'set', 'dev', 'b', 'state', state]);
      },
      saveLogs: (dir) => cpSync(lab.logDir, dir, { recursive: true }),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

async function readCounters(lab: Lab): Promise<{ north: number; south: number }> {
  const { stdout } = await lab.exec(IDS, ['nft', '-j', 'list', 'counters', 'table', 'bridge', 'ids']);
  const { nftables } = JSON.parse(stdout) as {
    nftables: { counter?: { name: string; packets: number } }[];
  };
  const packetsOf = (name: string): number =>
    nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? Number.NaN;
  return { north: packetsOf('north'), south: packetsOf('south') };
}
