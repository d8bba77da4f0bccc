// SPDX-License-Identifier: Apache-2.0
// A network namespace held by a sleeping process, which ends with the test process: a machine beside the gateway.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

export interface Machine extends Disposable {
  readonly pid: number;
  /** Runs a command there. @throws Error with what it said on stderr. */
  run(command: string, ...args: readonly string[]): string;
  /** `ip` with space-separated arguments. */
  ip(line: string): void;
  /** Starts Node there on a script. */
  node(script: string): ChildProcess;
}

/** Sleeps at most ten minutes, should its owner leave it behind in spite of all. */
export async function startMachine(): Promise<Machine> {
  const here = readlinkSync('/proc/self/ns/net');
  const holder = spawn('unshare', ['-n', 'setpriv', '--pdeathsig', 'SIGKILL', 'sleep', '600'], {
    stdio: 'ignore',
  });
  const { pid } = holder;
  if (pid === undefined) throw new Error('unshare could not be started: install util-linux');
  const deadline = Date.now() + 5000;
  while (readlinkSync(`/proc/${pid}/ns/net`) === here) {
    if (Date.now() > deadline) throw new Error('no network namespace after 5 s: run the tests as root');
    await setImmediate();
  }
  const enter = ['-t', String(pid), '-n'];
  const run = (command: string, ...args: readonly string[]): string =>
    execFileSync('nsenter', [...enter, command, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const machine: Machine = {
    pid,
    run,
    ip: (line) => void run('ip', ...line.split(' ')),
    node: (script) =>
      spawn('nsenter', [...enter, process.execPath, '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] }),
    [Symbol.dispose]: () => void holder.kill('SIGKILL'),
  };
  machine.ip('link set lo up');
  return machine;
}
