// SPDX-License-Identifier: Apache-2.0
// Runs one command of this machine to its end.
import { execFile } from 'node:child_process';
import { Fault } from '@detour/core';

/**
 * Runs `argv` (no shell); `input` goes to its standard input. Returns what it printed.
 * @throws Fault naming the command and what it wrote to standard error.
 */
export function run(argv: readonly string[], input = ''): Promise<string> {
  const [command, ...args] = argv;
  if (command === undefined) return Promise.reject(new Fault('invalid', 'run: the command line is empty'));
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      reject(new Fault('internal', `${argv.join(' ')}: ${stderr.trim() || error.message}`, error));
    });
    child.stdin?.on('error', () => undefined); // the command may end before it has read everything
    child.stdin?.end(input);
  });
}
