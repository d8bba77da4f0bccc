// SPDX-License-Identifier: Apache-2.0
/** Builds a lab from its data, runs things inside it, and takes all of it down again. */
import { chownSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Fault } from '@detour/core';
import { type LabProcess, type SpawnOptions, spawnInNetns } from './process.js';
import { pinRoot, reapDeadLabs, removeLab } from './reap.js';
import { type RunOptions, type RunResult, run } from './run.js';
import { namespaceScript, topologyBatch } from './script.js';
import type { LabSpec, ProcessSpec } from './spec.js';
import {
  claimName,
  defaultRuntimeDir,
  isOwnerAlive,
  listRecords,
  recordKept,
  recordProcess,
  removeState,
  statePath,
} from './state.js';
import { waitFor } from './wait.js';
import { buildXdpPass } from './xdp-pass.js';

export interface LabOptions {
  /** Lower-case letters, digits and dashes, at most 32: namespaces are called `dt-<name>-<ns>`. */
  readonly name: string;
  readonly signal?: AbortSignal;
  /** Default `/run/detour-lab`. */
  readonly runtimeDir?: string;
  /** Where logs go, kept when the lab closes; default a directory of the lab, removed with it. */
  readonly logDir?: string;
}

export interface Lab extends AsyncDisposable {
  readonly name: string;
  readonly spec: LabSpec;
  /** The lab's own directory: sockets, configuration, logs. Removed at close. */
  readonly dir: string;
  readonly logDir: string;
  /** Start of every path under which this lab's datapath may pin: `/sys/fs/bpf/detour/<name>-`. */
  readonly pinPrefix: string;
  /** The host's name of a namespace: `dt-<lab>-<ns>`. */
  netns(ns: string): string;
  /** Runs a command to its end inside a namespace. @throws Fault with what it wrote to standard error. */
  exec(ns: string, argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts a process inside a namespace; it ends with the lab at the latest. */
  spawn(ns: string, argv: readonly string[], options?: SpawnOptions): LabProcess;
  /** A process that the lab's data or `spawn` started under this name (the newest). */
  process(ns: string, name: string): LabProcess;
  close(): Promise<void>;
  /**
   * Leaves the lab running when this process ends, until a lab of the same name is made or
   * `reapDeadLabs(dir, { alsoKept: name })` is called. Processes with pipes to this one end with it.
   */
  keep(): void;
}

/**
 * Removes what dead owners left, then builds the lab and starts the processes of its data.
 * @throws Fault: bad name, name in use by a living owner, or the command that failed with its message.
 */
export async function createLab(spec: LabSpec, options: LabOptions): Promise<Lab> {
  const { name, signal } = options;
  const runtimeDir = options.runtimeDir ?? defaultRuntimeDir;
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)) {
    throw new Fault('invalid', `lab name '${name}': use 1 to 32 lower-case letters, digits and dashes`);
  }
  if (process.getuid?.() !== 0)
    throw new Fault('permission', 'a lab needs root: it makes network namespaces');
  const netns = (ns: string): string => {
    if (!(ns in spec.namespaces)) throw new Fault('not_found', `lab ${name} has no namespace '${ns}'`);
    return `dt-${name}-${ns}`;
  };
  const dir = join(runtimeDir, name);
  const logDir = options.logDir ?? join(dir, 'log');
  const namespaces = Object.keys(spec.namespaces).map(netns);
  const started: { ns: string; process: LabProcess }[] = [];

  await takeName(runtimeDir, name, namespaces);
  const close = async (): Promise<void> => {
    await removeLab({ name, namespaces, dir, processes: started.map(({ process }) => process) });
    removeState(statePath(runtimeDir, name));
  };
  const spawnIn = (ns: string, argv: readonly string[], spawnOptions: SpawnOptions = {}): LabProcess => {
    const processName = spawnOptions.name ?? (argv[0] ?? 'process').replace(/.*\//, '');
    const logFile = spawnOptions.logFile ?? join(logDir, `${ns}-${processName}.log`);
    const child = spawnInNetns(netns(ns), argv, { ...spawnOptions, name: processName, logFile });
    recordProcess(runtimeDir, name, { pid: child.pid, start: child.start });
    started.push({ ns, process: child });
    return child;
  };
  const lab: Lab = {
    name,
    spec,
    dir,
    logDir,
    pinPrefix: `${pinRoot}/${name}-`,
    netns,
    exec: (ns, argv, runOptions) => run(['nsenter', `--net=/run/netns/${netns(ns)}`, ...argv], runOptions),
    spawn: spawnIn,
    process: (ns, processName) => {
      const found = started.filter((s) => s.ns === ns && s.process.name === processName).at(-1);
      if (!found)
        throw new Fault('not_found', `lab ${name}: no process '${processName}' was started in '${ns}'`);
      return found.process;
    },
    close,
    keep() {
      recordKept(runtimeDir, name);
      for (const { process: one } of started) {
        one.child.unref();
        for (const pipe of [one.child.stdin, one.child.stdout]) if (pipe instanceof Socket) pipe.unref();
      }
    },
    [Symbol.asyncDispose]: close,
  };
  try {
    mkdirSync(dir, { recursive: true });
    mkdirSync(logDir, { recursive: true });
    await mountBpffs();
    await build(spec, netns, signal);
    for (const [ns, { processes }] of Object.entries(spec.namespaces)) {
      for (const one of processes ?? []) startDeclared(lab, ns, one);
    }
    await awaitReady(lab, signal);
    return lab;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Claims the name, after removing what dead owners left; waits while another run is removing the same lab. */
async function takeName(runtimeDir: string, name: string, namespaces: readonly string[]): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (performance.now() < deadline) {
    await reapDeadLabs(runtimeDir, { alsoKept: name });
    const holder = listRecords(runtimeDir).find((record) => record.name === name);
    if (holder === undefined && claimName(runtimeDir, name, namespaces)) return;
    if (holder?.path === statePath(runtimeDir, name) && isOwnerAlive(holder)) {
      throw new Fault(
        'conflict',
        `lab name '${name}' is in use by process ${holder.owner.pid}: choose another name, or end that process`,
      );
    }
    await delay(20);
  }
  throw new Fault(
    'timeout',
    `lab name '${name}' is still being removed by another process (see ${runtimeDir})`,
  );
}

/** Pins need the BPF file system; not every machine mounts it at boot. */
async function mountBpffs(): Promise<void> {
  const bpfFsMagic = 0xcafe4a11; // linux/magic.h
  if (statfsSync('/sys/fs/bpf').type !== bpfFsMagic) await run(['mount', '-t', 'bpf', 'bpf', '/sys/fs/bpf']);
}

async function build(spec: LabSpec, netns: (ns: string) => string, signal?: AbortSignal): Promise<void> {
  const xdpPass = await buildXdpPass();
  const options = signal ? { signal } : {};
  await run(['ip', '-batch', '-'], { ...options, input: topologyBatch(spec, netns) });
  const inside = Object.entries(spec.namespaces).map(([ns, namespace]) =>
    run(['nsenter', `--net=/run/netns/${netns(ns)}`, 'sh', '-s'], {
      ...options,
      input: namespaceScript(ns, namespace, spec.links, xdpPass),
    }),
  );
  await Promise.all(inside);
}

function startDeclared(lab: Lab, ns: string, spec: ProcessSpec): void {
  const dir = join(lab.dir, ns, spec.name);
  const fill = (text: string): string => text.replaceAll('{dir}', dir);
  mkdirSync(dir, { recursive: true });
  const paths = Object.entries(spec.files ?? {}).map(([file, content]) => {
    writeFileSync(join(dir, file), fill(content));
    return join(dir, file);
  });
  if (spec.user !== undefined) {
    const { uid, gid } = findUser(spec.user);
    for (const path of [dir, ...paths]) chownSync(path, uid, gid);
  }
  const env = Object.fromEntries(Object.entries(spec.env ?? {}).map(([key, value]) => [key, fill(value)]));
  lab.spawn(ns, spec.argv.map(fill), { name: spec.name, env });
}

/** @throws Fault when a process ends or says nothing of the kind in time, with the end of its log. */
async function awaitReady(lab: Lab, signal?: AbortSignal): Promise<void> {
  for (const [ns, { processes }] of Object.entries(lab.spec.namespaces)) {
    for (const { name, readyLog } of processes ?? []) {
      if (readyLog === undefined) continue;
      const started = lab.process(ns, name);
      const check = (): boolean => {
        if (started.log().includes(readyLog)) return true;
        if (started.isRunning()) return false;
        throw new Fault('internal', `${name} in ${ns} ended: ${started.log().slice(-500)}`);
      };
      await waitFor(check, { what: `'${readyLog}' in ${started.logFile}`, ...(signal && { signal }) });
    }
  }
}

function findUser(user: string): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${user}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined)
    throw new Fault('missing_feature', `no user '${user}': install the package that makes it`);
  return { uid: Number(uid), gid: Number(gid) };
}
