// SPDX-License-Identifier: Apache-2.0
// A benchmark's helper process in a namespace of a lab: one JSON request a line on its standard input, one JSON answer a line back.
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from '@detour/lab';
import { favour } from './favour.js';

export interface Agent<Request, Reply> {
  readonly pid: number;
  /** Requests are answered one after the other. @throws Fault `internal` with the end of its log when it has ended. */
  ask(request: Request): Promise<Reply>;
}

export interface AgentSpec {
  readonly ns: string;
  readonly name: string;
  /** The program, beside bench/dist: `stack/client-process.js`. */
  readonly main: string;
  readonly args: readonly string[];
  /** Put in front: `taskset`, `chrt`. */
  readonly prefix?: readonly string[];
}

/** Starts it and waits until it says that it is ready; the lab ends it. */
export async function startAgent<Request, Reply>(lab: Lab, spec: AgentSpec): Promise<Agent<Request, Reply>> {
  const main = fileURLToPath(new URL(spec.main, import.meta.url));
  const argv = [...(spec.prefix ?? []), process.execPath, main, ...spec.args];
  const child = lab.spawn(spec.ns, argv, { name: spec.name, stdio: 'pipe' });
  const { stdin, stdout } = child.child;
  if (stdin === null || stdout === null)
    throw new Fault('internal', `${spec.name} was started without pipes`);
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done === true) throw new Fault('internal', `${spec.name} ended: ${child.log().slice(-800)}`);
    return JSON.parse(line.value);
  };
  await next();
  favour(child.pid);
  let last: Promise<unknown> = Promise.resolve();
  return {
    pid: child.pid,
    ask: (request) => {
      const answer = last.then(() => {
        stdin.write(`${JSON.stringify(request)}\n`);
        return next();
      });
      last = answer.catch(() => undefined);
      return answer as Promise<Reply>;
    },
  };
}

/** The other side: answers requests until standard input ends. */
export async function serveAgent<Request, Reply>(
  answer: (request: Request) => Reply | Promise<Reply>,
): Promise<void> {
  process.stdout.write('{"ready":true}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line) as Request))}\n`);
  }
}
