// SPDX-License-Identifier: Apache-2.0
/** Runs one command line and gives its exit code; whatever fails becomes one line on the standard error. */
import { Fault } from '@detour/core';
import { CommanderError } from 'commander';
import type { Console } from './console.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { makeProgram } from './program.js';

/**
 * @param args what stands behind the program's name
 * @returns one of EXIT; never throws
 */
export async function runCli(args: readonly string[], console: Console): Promise<number> {
  let code: number = EXIT.ok;
  try {
    await makeProgram(console, (result) => {
      code = result;
    }).parseAsync([...args], { from: 'user' });
    return console.signal.aborted ? EXIT.interrupted : code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (console.signal.aborted) return EXIT.interrupted;
    const text =
      error instanceof Fault
        ? error.detail
        : error instanceof Error
          ? (error.stack ?? error.message)
          : String(error);
    console.err(`detour: ${text}\n`);
    return exitCodeOf(error);
  }
}
