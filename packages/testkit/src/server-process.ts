// SPDX-License-Identifier: Apache-2.0
// A real server as a child process in a directory of its own, that can be stopped, killed, frozen and started again.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.js';

export interface ServerSpec {
  readonly name: string;
  readonly command: string;
  readonly args: (dir: string) => readonly string[];
  /** true once the server answers. */
  readonly probe: (dir: string) => Promise<boolean>;
  /** Directory of its data, below its own directory; removed by `restart('empty')`. */
  readonly dataDir: string;
}

/** A running (or stopped) server. Disposing ends it and removes its files. */
export interface ServerProcess extends AsyncDisposable {
  readonly dir: string;
  readonly pid: number | undefined;
  /** Ends it with SIGTERM and waits. */
  stop(): Promise<void>;
  /** Ends it with SIGKILL and waits. */
  kill(): Promise<void>;
  /** Freezes it (SIGSTOP), and waits until all its threads stand still: connections stay, nothing answers. */
  pause(): Promise<void>;
  resume(): void;
  /** Starts a stopped one on the same address, and waits until it answers. */
  start(): Promise<void>;
  /** stop, then start: with its data (`keep`) or without (`empty`). */
  restart(data: 'keep' | 'empty'): Promise<void>;
}

/** Whether every thread of a process is stopped (proc_pid_stat(5), field 3). */
function standsStill(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) === 'T';
  });
}

export async function startServer(spec: ServerSpec): Promise<ServerProcess> {
  const dir = await mkdtemp(join(tmpdir(), `detour-${spec.name}-`));
  let child: ChildProcess | undefined;
  let output = '';

  const running = () => child !== undefined && child.exitCode === null && child.signalCode === null;
  const killAtExit = () => {
    if (running()) child?.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  process.on('exit', killAtExit);

  const start = async () => {
    if (running()) return;
    output = '';
    const started = spawn(spec.command, spec.args(dir), { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-4_000);
    };
    started.stdout.on('data', keep);
    started.stderr.on('data', keep);
    started.on('error', (error) => {
      output += error.message;
    });
    child = started;
    await until(
      async () => {
        if (!running()) return 'ended';
        return (await spec.probe(dir)) ? 'up' : null;
      },
      { timeoutMs: 20_000, what: `${spec.name} answers` },
    ).then((state) => {
      if (state === 'ended') throw new Error(`${spec.command} ended at once:\n${output}`);
    });
  };
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    if (!running()) return;
    child?.kill(signal);
    child?.kill('SIGCONT');
    await until(() => !running(), { timeoutMs: 20_000, what: `${spec.name} has ended` });
  };

  const server: ServerProcess = {
    dir,
    get pid() {
      return child?.pid;
    },
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    pause: async () => {
      const pid = child?.pid;
      child?.kill('SIGSTOP');
      await until(() => pid === undefined || standsStill(pid), { what: `${spec.name} stands still` });
    },
    resume: () => {
      child?.kill('SIGCONT');
    },
    restart: async (data) => {
      await end('SIGTERM');
      if (data === 'empty') await rm(join(dir, spec.dataDir), { recursive: true, force: true });
      await start();
    },
    [Symbol.asyncDispose]: async () => {
      process.off('exit', killAtExit);
      await end('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}
