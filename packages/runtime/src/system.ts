// SPDX-License-Identifier: Apache-2.0
// The machine's own tools (ip, nft, ethtool, sysctl files), run with a deadline and with errors that name the command.
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Fault } from '@detour/core';

const TOOL_DEADLINE_MS = 10_000;

/** Runs one tool; `input` goes to its standard input. Resolves to its standard output; a failure is a Fault with the tool's own words. */
export async function runTool(command: string, args: readonly string[], input?: string): Promise<string> {
  const { stdout, failure } = await tryTool(command, args, input);
  if (failure !== null) throw failure;
  return stdout;
}

/** The same, with what a tool said before or beside its failure. @throws Fault `missing_feature` when it is not installed */
export function tryTool(
  command: string,
  args: readonly string[],
  input?: string,
): Promise<{ stdout: string; failure: Fault | null }> {
  return new Promise((resolve, reject) => {
    const options = { timeout: TOOL_DEADLINE_MS, maxBuffer: 64 * 1024 * 1024 };
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ stdout, failure: null });
      else if ('code' in error && error.code === 'ENOENT')
        reject(
          new Fault(
            'missing_feature',
            `${command} is not installed: install its Debian package (iproute2, nftables, ethtool)`,
            error,
          ),
        );
      else {
        const said = stderr.trim() || error.message;
        resolve({
          stdout,
          failure: new Fault('internal', `${command} ${args.join(' ')} failed: ${said}`, error),
        });
      }
    });
    child.stdin?.on('error', () => {}); // a tool that ends without reading says so by its exit code
    if (input !== undefined) child.stdin?.end(input);
  });
}

/** Runs many ip commands in one process; stops at the first that fails. */
export async function runIpBatch(lines: readonly string[], family?: '-4' | '-6'): Promise<void> {
  if (lines.length === 0) return;
  const options = family === undefined ? [] : [family];
  await runTool('ip', [...options, '-batch', '-'], `${lines.join('\n')}\n`);
}

/** Parsed output of `ip -j …`. The caller names the shape it reads and checks what it uses. */
export async function readIp<Row>(...args: readonly string[]): Promise<Row[]> {
  const text = await runTool('ip', ['-j', ...args]);
  return text.trim() === '' ? [] : (JSON.parse(text) as Row[]);
}

/**
 * Many `ip` questions in one process. The rows of those that were answered; what the others failed with is told to `onError`, once.
 */
export async function askIpBatch<Row>(
  lines: readonly string[],
  onError: (text: string) => void,
): Promise<Row[]> {
  if (lines.length === 0) return [];
  const { stdout, failure } = await tryTool('ip', ['-j', '-force', '-batch', '-'], `${lines.join('\n')}\n`);
  if (failure !== null) onError(failure.detail);
  return stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .flatMap((line) => JSON.parse(line) as Row[]);
}

/** Where sysctls are written; a container, whose /proc/sys is read-only, has its network namespace's part of it elsewhere. */
export const SYSCTL_DIR = '/proc/sys';

/** Writes a sysctl by its path below `dir`, if it differs. At once, in this thread: /proc/sys/net is each thread's own namespace. */
export function setSysctl(path: string, value: string, dir: string = SYSCTL_DIR): void {
  const file = `${dir}/${path}`;
  try {
    if (readFileSync(file, 'utf8').trim() === value) return;
    writeFileSync(file, value);
  } catch (error) {
    throw new Fault(
      'permission',
      `cannot set ${file} to ${value}: run as root with ${dir} writable (a container: bind /proc/sys/net elsewhere, and name the place in DETOUR_SYSCTL_DIR)`,
      error,
    );
  }
}
