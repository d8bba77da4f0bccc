// SPDX-License-Identifier: Apache-2.0
// The generator as a process in its own namespace, on a CPU of its own as far as the machine has one.
import { cpus } from 'node:os';
import type { Lab } from '@detour/lab';
import { startAgent } from '../agent.js';
import { buildBenchObject } from '../bpf-objects.js';
import type { GeneratorCommand, GeneratorReply } from './generator-protocol.js';

export interface Generator {
  readonly pid: number;
  /** The CPU that it runs on, and with it the softirqs of what it sends. */
  readonly cpu: number;
  send(command: GeneratorCommand): Promise<GeneratorReply>;
}

/** Starts it in a namespace of the lab, which ends it. It has real-time priority: what is measured is not shared out meanwhile. */
export async function startGenerator(lab: Lab, ns: string): Promise<Generator> {
  const cpu = cpus().length - 1;
  const agent = await startAgent<GeneratorCommand, GeneratorReply>(lab, {
    ns,
    name: 'generator',
    main: 'steer/generator-process.js',
    args: [await buildBenchObject('generator')],
    prefix: ['taskset', '-c', String(cpu), 'chrt', '-f', '1'],
  });
  return { pid: agent.pid, cpu, send: (command) => agent.ask(command) };
}
