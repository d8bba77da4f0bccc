// SPDX-License-Identifier: Apache-2.0
/** An appliance of a gateway load balancer in a namespace: hands every packet back in its own Geneve header, and says what it has seen. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from './lab.js';

export interface ApplianceReport {
  /** IPv4 packets, those from an address to itself apart. */
  readonly packets: number;
  /** Packets from an address to itself. */
  readonly echoes: number;
  readonly broken: number;
  /** By inner flow, both directions together. */
  readonly flows: Readonly<Record<string, ApplianceFlow>>;
}

export interface ApplianceFlow {
  /** Each cookie that came with the flow, in hexadecimal. */
  readonly cookies: readonly string[];
  /** Class, type and length in bytes of each option. */
  readonly options: readonly (readonly [number, number, number])[];
  /** Endpoint and attachment id, in hexadecimal. */
  readonly ids: string;
}

export interface Appliance extends AsyncDisposable {
  report(): Promise<ApplianceReport>;
  /** `hold`: swallows packets while its TCP port answers; `forge`: returns them with another cookie. */
  setMode(mode: 'return' | 'hold' | 'forge'): Promise<void>;
  setHealth(on: boolean): Promise<void>;
}

/** Resolves when it listens. */
export async function startAppliance(
  lab: Lab,
  ns: string,
  address: string,
  healthPort: number,
): Promise<Appliance> {
  const script = fileURLToPath(new URL('../src/agents/gwlb_appliance.py', import.meta.url));
  const process = lab.spawn(ns, ['python3', '-u', script, address, String(healthPort)], {
    name: 'appliance',
    stdio: 'pipe',
  });
  const { stdin, stdout } = process.child;
  if (stdin === null || stdout === null) throw new Fault('internal', 'the appliance has no pipes');
  stdin.on('error', () => undefined); // its end is reported below
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done) throw new Fault('unavailable', `the appliance in ${ns} ended: ${process.log().trim()}`);
    return line.value;
  };
  await next();
  const ask = async (command: string): Promise<ApplianceReport> => {
    stdin.write(`${command}\n`);
    return JSON.parse(await next()) as ApplianceReport;
  };
  return {
    report: () => ask('report'),
    setMode: async (mode) => void (await ask(`mode ${mode}`)),
    setHealth: async (on) => void (await ask(`health ${on ? 'on' : 'off'}`)),
    [Symbol.asyncDispose]: () => process.kill(),
  };
}
