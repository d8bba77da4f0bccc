// SPDX-License-Identifier: Apache-2.0
/** What a command gets from the process that runs it: output, environment, input, and the end. */
import { readFile } from 'node:fs/promises';
import { Fault } from '@detour/core';

export interface Console {
  out(text: string): void;
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** All of standard input. */
  readInput(): Promise<string>;
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** The process's own console. */
export function processConsole(signal: AbortSignal): Console {
  return {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    env: process.env,
    signal,
    readInput: readStdin,
  };
}

/** The text of a file, `-` for standard input. @throws Fault `invalid` */
export async function readDocument(console: Console, file: string): Promise<string> {
  if (file === '-') return console.readInput();
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const reason =
      why === 'ENOENT' ? 'does not exist' : why === 'EISDIR' ? 'is a directory' : `cannot be read (${why})`;
    throw new Fault(
      'invalid',
      `${file} ${reason}: give -f the intent document, or - for standard input`,
      error,
    );
  }
}
