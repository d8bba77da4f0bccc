// SPDX-License-Identifier: Apache-2.0
/** A program of these tests inside a namespace: requests as JSON lines to its standard input, one answer each from its standard output. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from '@detour/lab';

export interface AgentLink extends AsyncDisposable {
  /** Its process, on this machine. */
  readonly pid: number;
  ask<T>(request: { readonly op: string }): Promise<T>;
}

type Answer = {
  readonly id: number;
  readonly ok: boolean;
  readonly value?: unknown;
  readonly error?: string;
};

/** `program`: its file beside this one, without ending; it runs as built, so build before testing. */
export function startAgent(lab: Lab, ns: string, program: string, config: unknown): AgentLink {
  const main = fileURLToPath(new URL(`../../dist/acceptance/${program}.js`, import.meta.url));
  const agent = lab.spawn(ns, [process.execPath, main, JSON.stringify(config)], {
    name: program,
    stdio: 'pipe',
  });
  const { stdin, stdout } = agent.child;
  const { pid } = agent;
  if (stdin === null || stdout === null) throw new Fault('internal', `${program} has no pipes`);
  const waiting = new Map<number, (answer: Answer) => void>();
  let ids = 0;
  createInterface({ input: stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as Answer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  void agent.exited.then(() => {
    for (const [id, done] of waiting)
      done({ id, ok: false, error: `it ended: ${agent.log().trim().slice(-800)}` });
    waiting.clear();
  });
  stdin.on('error', () => undefined); // its end is reported above
  return {
    pid,
    async ask<T>(request: { readonly op: string }) {
      if (!agent.isRunning()) throw new Fault('unavailable', `${program} in ${ns} has ended: ${agent.log()}`);
      ids += 1;
      const id = ids;
      const answer = await new Promise<Answer>((resolve) => {
        waiting.set(id, resolve);
        stdin.write(`${JSON.stringify({ id, ...request })}\n`);
      });
      if (!answer.ok) throw new Fault('internal', `${program} in ${ns}: ${request.op}: ${answer.error}`);
      return answer.value as T;
    },
    [Symbol.asyncDispose]: () => agent.kill(),
  };
}
