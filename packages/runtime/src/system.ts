// SPDX-License-Identifier: Apache-2.0
// The machine's own tools (ip, nft, ethtool, sysctl files), run with a deadline and with errors that name the command.
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Fault } from '@detour/core';

const TOOL_DEADLINE_MS = 10_000;
/** Lines that one process gets: it has TOOL_DEADLINE_MS for them, and a device takes milliseconds to make or remove. */
const LINES_PER_BATCH = 200;

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

/** Runs many ip commands in few processes, one after the other; stops at the first that fails. */
export async function runIpBatch(lines: readonly string[], family?: '-4' | '-6'): Promise<void> {
  const options = family === undefined ? [] : [family];
  for (const some of portions(lines))
    await runTool('ip', [...options, '-batch', '-'], `${some.join('\n')}\n`);
}

function* portions<T>(all: readonly T[], size = LINES_PER_BATCH): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += size) yield all.slice(at, at + size);
}

/** Runs one tool on each of many devices, from few processes: `command` with `$device` in it. @throws Fault with the tool's words and the device */
export async function runOnDevices(devices: readonly string[], command: string): Promise<void> {
  const script = `for device; do ${command} || { echo "device $device" >&2; exit 1; }; done`;
  for (const some of portions(devices)) await runTool('sh', ['-c', script, 'sh', ...some]);
}

/** Parsed output of `ip -j …`. The caller names the shape it reads and checks what it uses. */
export async function readIp<Row>(...args: readonly string[]): Promise<Row[]> {
  const text = await runTool('ip', ['-j', ...args]);
  return text.trim() === '' ? [] : (JSON.parse(text) as Row[]);
}

/**
 * Many `ip` questions in few processes. The rows of those that were answered; what the others failed with is told to `onError`, once.
 */
export async function askIpBatch<Row>(
  lines: readonly string[],
  onError: (text: string) => void,
): Promise<Row[]> {
  const rows: Row[] = [];
  const failed: string[] = [];
  for (const some of portions(lines)) {
    const { stdout, failure } = await tryTool('ip', ['-j', '-force', '-batch', '-'], `${some.join('\n')}\n`);
    if (failure !== null) failed.push(failure.detail);
    for (const line of stdout.split('\n')) if (line.trim() !== '') rows.push(...(JSON.parse(line) as Row[]));
  }
  if (failed.length > 0) onError(failed.join('; '));
  return rows;
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
