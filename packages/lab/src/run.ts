// SPDX-License-Identifier: Apache-2.0
/** Runs one command to its end and returns what it printed. */
import { spawn } from 'node:child_process';
import { Fault } from '@detour/core';

export interface RunOptions {
  /** Written to standard input, which is then closed. */
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** The command is killed after this long; default 30,000 ms. */
  readonly timeoutMs?: number;
  /** Exit codes that are not errors; default `[0]`. */
  readonly okCodes?: readonly number[] | 'any';
  readonly cwd?: string;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `argv` (no shell).
 * @throws Fault naming the command, its exit code and what it wrote to standard error.
 */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [command, ...args] = argv;
  if (command === undefined) return Promise.reject(new Fault('invalid', 'run: the command line is empty'));
  const timeoutMs = options.timeoutMs ?? 30_000;
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL',
      ...(options.cwd ? { cwd: options.cwd } : {}),
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin.on('error', () => undefined); // the command may end before it has read everything
    child.once('error', (cause) => {
      const why = deadline.aborted ? `did not end within ${timeoutMs} ms` : cause.message;
      reject(new Fault(deadline.aborted ? 'timeout' : 'internal', `${argv.join(' ')}: ${why}`, cause));
    });
    child.once('close', (code, killedBy) => {
      const stdout = Buffer.concat(out).toString();
      const stderr = Buffer.concat(err).toString();
      const okCodes = options.okCodes ?? [0];
      if (code !== null && (okCodes === 'any' || okCodes.includes(code)))
        return resolve({ code, stdout, stderr });
      const how = code === null ? `killed by ${killedBy}` : `exit code ${code}`;
      reject(
        new Fault('internal', `${argv.join(' ')}: ${how}: ${stderr.trim() || stdout.trim() || 'no output'}`),
      );
    });
    child.stdin.end(options.input ?? '');
  });
}
