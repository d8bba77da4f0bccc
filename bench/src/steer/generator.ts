// SPDX-License-Identifier: Apache-2.0
// The generator as a process in its own namespace, on a CPU of its own as far as the machine has one.
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from '@detour/lab';
import { buildBenchObject } from '../bpf-objects.js';
import type { GeneratorCommand, GeneratorReply } from './generator-protocol.js';

export interface Generator {
  readonly pid: number;
  /** The CPU that it runs on, and with it the softirqs of what it sends. */
  readonly cpu: number;
  send(command: GeneratorCommand): Promise<GeneratorReply>;
}

/** Starts it in a namespace of the lab, which ends it. */
export async function startGenerator(lab: Lab, ns: string): Promise<Generator> {
  const cpu = cpus().length - 1;
  const main = fileURLToPath(new URL('./generator-process.js', import.meta.url));
  const argv = ['taskset', '-c', String(cpu), 'chrt', '-f', '1', process.execPath, main];
  const child = lab.spawn(ns, [...argv, await buildBenchObject('generator')], {
    name: 'generator',
    stdio: 'pipe',
  });
  const { stdin, stdout } = child.child;
  if (stdin === null || stdout === null)
    throw new Fault('internal', 'the generator was started without pipes to it');
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done === true) throw new Fault('internal', `the generator ended: ${child.log().slice(-500)}`);
    return JSON.parse(line.value);
  };
  await next(); // ready
  return {
    pid: child.pid,
    cpu,
    send: async (command) => {
      stdin.write(`${JSON.stringify(command)}\n`);
      return (await next()) as GeneratorReply;
    },
  };
}
