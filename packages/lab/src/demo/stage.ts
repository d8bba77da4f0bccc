// SPDX-License-Identifier: Apache-2.0
/** Everything the story is played on: the lab, the five services with NATS and Redis, traffic, and a receiver of traces. */
import { cpSync } from 'node:fs';
import { type Firewall, openFirewall } from '../firewall.js';
import { createLab, type Lab } from '../lab.js';
import { type OtlpReceiver, startOtlpReceiver } from '../otlp.js';
import { type Stack, startStack } from '../stack.js';
import { standardAddresses, standardLab } from '../standard-lab.js';
import { startTraffic, type TrafficAgent } from '../traffic.js';
import { type Detour, openDetour } from './detour.js';
import type { Narrator } from './narrator.js';

export interface Stage {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly detour: Detour;
  /** In the client's namespace. */
  readonly traffic: TrafficAgent;
  readonly otlp: OtlpReceiver;
  readonly fw1: Firewall;
  readonly fw2: Firewall;
  readonly signal: AbortSignal;
  /** Copies the logs of all processes there. */
  saveLogs(dir: string): void;
}

/** Raises all of it; closing `lab` ends all of it. @throws Fault; nothing is left running then. */
export async function raiseStage(name: string, tell: Narrator, signal: AbortSignal): Promise<Stage> {
  // Never raced against the signal: what is being started must be known before it can be stopped.
  const lab = await tell.during('raising namespaces, links and firewalls', () =>
    createLab(standardLab(), { name, signal }),
  );
  try {
    signal.throwIfAborted();
    const otlp = await startOtlpReceiver(lab, { ns: 'mgmt', address: standardAddresses.management });
    const stack = await tell.during('starting NATS, Redis and the five services', () =>
      startStack(lab, { otlp: otlp.endpoint }),
    );
    signal.throwIfAborted();
    return {
      lab,
      stack,
      otlp,
      signal,
      detour: openDetour(stack),
      traffic: startTraffic(lab, 'client'),
      fw1: openFirewall(lab, 'fw1'),
      fw2: openFirewall(lab, 'fw2'),
      saveLogs: (dir) => cpSync(lab.logDir, dir, { recursive: true }),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
