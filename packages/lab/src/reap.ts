// SPDX-License-Identifier: Apache-2.0
/** Removes what a lab left behind: its processes, namespaces, BPF pins and files. */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from './run.js';
import {
  claimDead,
  defaultRuntimeDir,
  isAlive,
  isOwnerAlive,
  listRecords,
  type ProcessIdentity,
  readStart,
  removeEmpty,
  removeState,
} from './state.js';

/** Where the datapath's pins of all labs are: `<pinRoot>/<lab>-*`. */
export const pinRoot = '/sys/fs/bpf/detour';

/** How long processes get to end by themselves before they are killed. */
const graceMs = 500;

export interface Leftovers {
  readonly name: string;
  /** Netns names on the host. */
  readonly namespaces: readonly string[];
  readonly processes: readonly ProcessIdentity[];
  readonly dir: string;
}

/**
 * Removes every lab whose owner is dead, never one of a living owner. One that was kept on purpose (`lab.keep`) is
 * removed only when it is named.
 * @returns the names of the labs removed.
 */
export async function reapDeadLabs(
  runtimeDir: string = defaultRuntimeDir,
  options: { readonly alsoKept?: string } = {},
): Promise<string[]> {
  const reaped: string[] = [];
  for (const record of listRecords(runtimeDir)) {
    if (isOwnerAlive(record) || (record.isKept && record.name !== options.alsoKept)) continue;
    const claimed = claimDead(runtimeDir, record);
    if (claimed === undefined) continue;
    await removeLab({ ...record, dir: join(runtimeDir, record.name) });
    removeState(claimed);
    reaped.push(record.name);
  }
  return reaped;
}

/** Ends and removes all of one lab; what is already gone is no error. */
export async function removeLab(lab: Leftovers): Promise<void> {
  await endProcesses([...lab.processes.filter(isAlive), ...processesIn(lab.namespaces)]);
  const present = lab.namespaces.filter((ns) => netnsInode(ns) !== undefined);
  if (present.length > 0) {
    await run(['ip', '-batch', '-'], { input: present.map((ns) => `netns delete ${ns}\n`).join('') });
  }
  for (const pin of namesIn(pinRoot)) {
    if (pin.startsWith(`${lab.name}-`)) rmSync(join(pinRoot, pin), { recursive: true, force: true });
  }
  removeEmpty(pinRoot);
  rmSync(lab.dir, { recursive: true, force: true });
}

/** Asks the process groups to end, waits a moment, kills what is left and waits for that. */
export async function endProcesses(processes: readonly ProcessIdentity[]): Promise<void> {
  let left = processes.filter(isAlive);
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', 5_000],
  ] as const) {
    for (const { pid } of left) {
      signalGroup(pid, signal);
      if (signal === 'SIGTERM') signalGroup(pid, 'SIGCONT'); // one that is stopped could not end
    }
    const deadline = performance.now() + waitMs;
    while (performance.now() < deadline) {
      left = left.filter(isAlive);
      if (left.length === 0) break;
      await delay(5);
    }
  }
}

/**
 * Signals the process group that a process leads (all that the lab starts do), or else the process alone; each process gets it once,
 * for a second SIGTERM ends a service at once.
 */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, signal);
      return;
    } catch {
      // already gone, or no group leader
    }
  }
}

/** Every process whose network namespace is one of these: none but the lab's can be there. */
function processesIn(namespaces: readonly string[]): ProcessIdentity[] {
  const inodes = new Set(namespaces.map(netnsInode).filter((inode) => inode !== undefined));
  if (inodes.size === 0) return [];
  return namesIn('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    const start = readStart(pid);
    const inode = inodeOf(`/proc/${pid}/ns/net`);
    return start !== undefined && inode !== undefined && inodes.has(inode) ? [{ pid, start }] : [];
  });
}

function netnsInode(ns: string): number | undefined {
  return inodeOf(`/run/netns/${ns}`);
}

function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined; // gone, or a process that even root may not look into, which is none of ours
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
