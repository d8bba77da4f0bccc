// SPDX-License-Identifier: Apache-2.0
/**
 * Who owns a lab and what it made, on disk, so that the next run can remove what a crashed owner left.
 *
 * One file per lab, `<runtime dir>/<name>.state`: the first line names the owner (pid, start time, boot), each further
 * line one process started, or `kept`. Namespaces, directory and pins follow from the name. A run that removes a dead lab first
 * claims its file by renaming it to `<name>.reaping-<pid>-<start>`, so that two runs never reap the same lab, and a
 * reaper that dies itself is found dead by that name.
 */
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** A process that cannot be mistaken for a later one with the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Start time in clock ticks since boot (proc(5), `/proc/PID/stat` field 22). */
  readonly start: string;
}

export interface LabRecord {
  readonly name: string;
  readonly path: string;
  readonly owner: ProcessIdentity & { readonly boot: string };
  /** Netns names on the host, in the order they were made. */
  readonly namespaces: readonly string[];
  readonly processes: readonly ProcessIdentity[];
  /** Left running on purpose: removed only by name. */
  readonly isKept: boolean;
}

const keptLine = 'kept';

export const defaultRuntimeDir = '/run/detour-lab';

/** Start time of a living process, undefined if there is none. A zombie counts as dead. */
export function readStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined; // no such process
  }
}

export function isAlive(process: ProcessIdentity): boolean {
  return readStart(process.pid) === process.start;
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function isOwnerAlive(record: LabRecord): boolean {
  return record.owner.boot === bootId() && isAlive(record.owner);
}

/** Creates the state file; false if a lab of this name already has one. */
export function claimName(dir: string, name: string, namespaces: readonly string[]): boolean {
  const first = { pid: process.pid, start: readStart(process.pid), boot: bootId(), namespaces };
  const mine = join(dir, `.${name}-${process.pid}`);
  writeInto(dir, mine, `${JSON.stringify(first)}\n`);
  try {
    linkSync(mine, statePath(dir, name)); // a whole file or none, and only if there is none
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Writes a file into a directory that others remove when they find it empty. */
function writeInto(dir: string, path: string, content: string): void {
  for (let attempt = 0; ; attempt += 1) {
    mkdirSync(dir, { recursive: true });
    try {
      writeFileSync(path, content);
      return;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || attempt >= 10) throw error;
    }
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

export function recordProcess(dir: string, name: string, child: ProcessIdentity): void {
  appendFileSync(statePath(dir, name), `${JSON.stringify(child)}\n`);
}

/** From now on the lab outlives its owner. */
export function recordKept(dir: string, name: string): void {
  appendFileSync(statePath(dir, name), `${keptLine}\n`);
}

/** The directory goes with its last lab. */
export function removeState(path: string): void {
  rmSync(path, { force: true });
  removeEmpty(dirname(path));
}

/** Removes a directory if nothing is in it. */
export function removeEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // in use, or gone
  }
}

export function statePath(dir: string, name: string): string {
  return join(dir, `${name}.state`);
}

/** All labs known to the runtime directory, living and dead. Files that are no state files are left alone. */
export function listRecords(dir: string): LabRecord[] {
  let files: string[];
  try {
    files = readdirSync(dir);
  } catch {
    return []; // no lab was ever made here
  }
  return files.flatMap((file) => readRecord(dir, file) ?? []);
}

/** Takes a dead lab over for removal; undefined if another process was quicker. */
export function claimDead(dir: string, record: LabRecord): string | undefined {
  const claimed = join(dir, `${record.name}.reaping-${process.pid}-${readStart(process.pid)}`);
  try {
    renameSync(record.path, claimed);
    return claimed;
  } catch {
    return undefined;
  }
}

function readRecord(dir: string, file: string): LabRecord | undefined {
  const match = /^([a-z0-9-]+)\.(?:state|reaping-(\d+)-(\d+))$/.exec(file);
  const name = match?.[1];
  if (match === null || name === undefined) return undefined;
  const path = join(dir, file);
  try {
    const [first, ...rest] = readFileSync(path, 'utf8').split('\n').filter(Boolean);
    const { pid, start, boot, namespaces } = JSON.parse(first ?? '') as LabRecord['owner'] & LabRecord;
    const owner =
      match[2] && match[3] ? { pid: Number(match[2]), start: match[3], boot } : { pid, start, boot };
    const isKept = rest.includes(keptLine);
    return { name, path, owner, namespaces, isKept, processes: rest.flatMap(parseProcess) };
  } catch {
    return undefined; // removed since the directory was read
  }
}

/** A line cut short by a crash is no process. */
function parseProcess(line: string): ProcessIdentity[] {
  try {
    return [JSON.parse(line) as ProcessIdentity];
  } catch {
    return [];
  }
}
