// SPDX-License-Identifier: Apache-2.0
// Opens, sizes, pins and loads a compiled BPF object file, and says in one Fault why the kernel would not have it.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { describeErrno, Errno, errnoFault, lastErrno, PRIVILEGES } from './errno.js';
import { captureLibbpfLog, explainLoadLog } from './libbpf-log.js';
import { BpfMap } from './map.js';
import { native, type Pointer } from './native.js';
import { type BpfProgram, programOf } from './program.js';
import { type RodataValue, setRodata } from './rodata.js';

export interface OpenOptions {
  /** Map sizes that replace those of the object file, by map name. */
  readonly maxEntries?: Readonly<Record<string, number>>;
  /**
   * Directory on a bpffs. Every map that the object declares is pinned there under its name; one that is there already is
   * used again, with its content. Compiler-made maps (.rodata, .bss, .data) are not pinned.
   */
  readonly pinDir?: string;
  /** `const volatile` variables of the program, by name: numbers and bigints of the variable's width, or bytes. */
  readonly rodata?: Readonly<Record<string, RodataValue>>;
  /** Only these programs are loaded; all, if absent. */
  readonly programs?: readonly string[];
}

/** A loaded object. Closing it closes its descriptors; what is pinned or linked lives on. */
export interface BpfObject extends Disposable {
  readonly path: string;
  readonly maps: ReadonlyMap<string, BpfMap>;
  readonly programs: ReadonlyMap<string, BpfProgram>;
  /** @throws Fault `not_found` naming the maps that there are. */
  map(name: string): BpfMap;
  /** @throws Fault `not_found` naming the programs that there are. */
  program(name: string): BpfProgram;
  close(): void;
}

/**
 * Loads `path` into the kernel.
 * @throws Fault: `not_found` no such file, map or program; `invalid` no BPF object, or refused by the verifier (with its last lines);
 * `conflict` a pinned map has another shape; `permission` privileges missing.
 */
export function openObject(path: string, options: OpenOptions = {}): BpfObject {
  if (!existsSync(path))
    throw new Fault('not_found', `BPF object ${path} does not exist; build it (make build)`);
  const { bpf } = native();
  const opened = captureLibbpfLog(() => {
    const pointer = bpf.objectOpen(path, null);
    return { pointer, errno: pointer === null ? lastErrno() : 0 };
  });
  const { pointer, errno } = opened.result;
  if (pointer === null) {
    throw new Fault(
      'invalid',
      `BPF object ${path} cannot be opened: ${describeErrno(errno)}; ${opened.log.trim()}`,
    );
  }
  try {
    prepare(pointer, path, options);
    const { result, log } = captureLibbpfLog(() => bpf.objectLoad(pointer));
    if (result !== 0) throw loadFault(path, result, log);
    return loadedObject(pointer, path, options);
  } catch (error) {
    bpf.objectClose(pointer);
    throw error;
  }
}

function prepare(object: Pointer, path: string, options: OpenOptions): void {
  const { bpf } = native();
  const maps = new Map(pointers(object, bpf.nextMap).map((map) => [bpf.mapName(map), map]));
  for (const [name, entries] of Object.entries(options.maxEntries ?? {})) {
    const map = named(maps, name, `BPF object ${path}`, 'map');
    if (!Number.isInteger(entries) || entries < 1 || entries > 0xffff_ffff) {
      throw new Fault('invalid', `map ${name}: ${entries} entries; give a whole number from 1 to 4294967295`);
    }
    const rc = bpf.mapSetMaxEntries(map, entries);
    if (rc !== 0) throw errnoFault(rc, `map ${name}: size of ${entries} entries`);
  }
  if (options.pinDir !== undefined) {
    makePinDirectory(options.pinDir);
    for (const [name, map] of maps) {
      if (bpf.mapIsInternal(map)) continue;
      const rc = bpf.mapSetPinPath(map, join(options.pinDir, name));
      if (rc !== 0) throw errnoFault(rc, `map ${name}: pin path in ${options.pinDir}`);
    }
  }
  if (options.rodata !== undefined) setRodata(object, path, options.rodata);
  if (options.programs !== undefined) choosePrograms(object, path, options.programs);
}

/** Makes a directory for pins. A bpffs refuses names that contain a dot, with EPERM. */
export function makePinDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new Fault(
      'invalid',
      `pin directory ${path} cannot be made: give a path on a mounted bpffs, its names without dots`,
      cause,
    );
  }
}

function choosePrograms(object: Pointer, path: string, wanted: readonly string[]): void {
  const { bpf } = native();
  const programs = new Map(pointers(object, bpf.nextProgram).map((p) => [bpf.programName(p), p]));
  for (const name of wanted) named(programs, name, `BPF object ${path}`, 'program');
  for (const [name, program] of programs) bpf.programSetAutoload(program, wanted.includes(name));
}

function loadedObject(object: Pointer, path: string, options: OpenOptions): BpfObject {
  const { bpf } = native();
  const maps = new Map<string, BpfMap>();
  for (const map of pointers(object, bpf.nextMap)) {
    const name = bpf.mapName(map);
    maps.set(name, new BpfMap(bpf.mapFd(map), name));
  }
  const programs = new Map<string, BpfProgram>();
  for (const program of pointers(object, bpf.nextProgram)) {
    const name = bpf.programName(program);
    if (options.programs !== undefined && !options.programs.includes(name)) continue;
    programs.set(name, programOf(bpf.programFd(program), name, bpf.programType(program)));
  }
  let open = true;
  const close = (): void => {
    if (open) bpf.objectClose(object);
    open = false;
  };
  return {
    path,
    maps,
    programs,
    map: (name) => named(maps, name, `BPF object ${path}`, 'map'),
    program: (name) => named(programs, name, `BPF object ${path}`, 'program'),
    close,
    [Symbol.dispose]: close,
  };
}

function loadFault(path: string, errno: number, log: string): Fault {
  const { program, verifier, warnings } = explainLoadLog(log);
  const mismatch = warnings.find((line) => line.includes("couldn't reuse pinned map"));
  if (mismatch !== undefined) {
    return new Fault(
      'conflict',
      `BPF object ${path}: a pinned map has another shape than the object wants (${mismatch.trim()}); ` +
        'remove that pin, or use a pin directory of its own for this version',
    );
  }
  if (program !== undefined) {
    return new Fault(
      'invalid',
      `BPF object ${path}: the verifier refused program ${program} (${describeErrno(errno)}):\n` +
        `${verifier.map((line) => `  ${line}`).join('\n')}\n` +
        'correct the program, or run a kernel whose verifier knows it (6.1 or newer)',
    );
  }
  const said = warnings.map((line) => line.replace(/^libbpf: /, '')).join('; ');
  const denied = Math.abs(errno) === Errno.EPERM || Math.abs(errno) === Errno.EACCES;
  return errnoFault(errno, `BPF object ${path} cannot be loaded (${said})`, denied ? PRIVILEGES : undefined);
}

function pointers(object: Pointer, next: (object: Pointer, at: Pointer | null) => Pointer | null): Pointer[] {
  const found: Pointer[] = [];
  for (let at = next(object, null); at !== null; at = next(object, at)) found.push(at);
  return found;
}

function named<T>(things: ReadonlyMap<string, T>, name: string, owner: string, kind: string): T {
  const found = things.get(name);
  if (found !== undefined) return found;
  throw new Fault(
    'not_found',
    `${owner} has no ${kind} ${name}; it has ${[...things.keys()].join(', ') || 'none'}`,
  );
}
