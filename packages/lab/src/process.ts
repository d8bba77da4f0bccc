// SPDX-License-Identifier: Apache-2.0
/** A long-running process inside a namespace: started through nsenter, in its own process group, its output in a log. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { Fault } from '@detour/core';
import { endProcesses, signalGroup } from './reap.js';
import { readStart } from './state.js';

/**
 * Start of a command line that goes before what else wants this machine's processors: for what has a machine of its own in reality,
 * and for what measures, so that its own lateness is not taken for the path's.
 */
export const promptly = ['nice', '-n', '-15'] as const;

export interface SpawnOptions {
  /** Names the process in messages and its log; default: the command. */
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Where standard output and error go; default `<lab dir>/log/<name>.log`. Appended to. */
  readonly logFile?: string;
  readonly cwd?: string;
  /** `pipe`: standard input and output are pipes of the caller, only standard error goes to the log. */
  readonly stdio?: 'log' | 'pipe';
}

export interface LabProcess {
  readonly name: string;
  readonly pid: number;
  readonly start: string;
  readonly logFile: string;
  readonly child: ChildProcess;
  /** Resolves when the process has ended. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  isRunning(): boolean;
  /** Signals the whole process group. */
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, half a second later SIGKILL; resolves when it is gone. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** What it has logged so far. */
  log(): string;
}

/** @throws Fault when the process cannot be started. */
export function spawnInNetns(
  netns: string,
  argv: readonly string[],
  options: SpawnOptions & { readonly name: string; readonly logFile: string },
): LabProcess {
  const logFd = openSync(options.logFile, 'a');
  const piped = options.stdio === 'pipe';
  const child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...argv], {
    env: { ...process.env, ...options.env },
    stdio: piped ? ['pipe', 'pipe', logFd] : ['ignore', logFd, logFd],
    detached: true,
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  closeSync(logFd);
  const { pid } = child;
  const start = pid === undefined ? undefined : readStart(pid);
  if (pid === undefined || start === undefined) {
    child.on('error', () => undefined);
    throw new Fault(
      'missing_feature',
      `${argv.join(' ')} in ${netns}: cannot be started (is nsenter installed?)`,
    );
  }
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    if (!isRunning()) return;
    if (signal === 'SIGKILL') signalGroup(pid, 'SIGKILL');
    else await endProcesses([{ pid, start }]);
    await exited;
  };
  return {
    name: options.name,
    pid,
    start,
    logFile: options.logFile,
    child,
    exited,
    isRunning,
    signal: (signal) => signalGroup(pid, signal),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    log: () => readFileSync(options.logFile, 'utf8'),
  };
}
