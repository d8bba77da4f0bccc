// SPDX-License-Identifier: Apache-2.0
// One BPF map: single-element operations on byte buffers, each checked against the map's sizes before the kernel sees a pointer.
import { Fault } from '@detour/core';
import { describeErrno, Errno, errnoFault } from './errno.js';
import { native } from './native.js';

/** `flags` of update (linux/bpf.h BPF_ANY, BPF_NOEXIST, BPF_EXIST). */
export const UpdateFlag = { ANY: 0, NOEXIST: 1, EXIST: 2 } as const;

/** What an update came to, where the caller wants to decide on it. */
export type UpdateResult = 'stored' | 'exists' | 'absent' | 'full';

/** Map types that this package treats specially (linux/bpf.h enum bpf_map_type). */
export const MapType = {
  HASH: 1,
  ARRAY: 2,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  LRU_HASH: 9,
  LRU_PERCPU_HASH: 10,
  LPM_TRIE: 11,
  RINGBUF: 27,
} as const;

const PER_CPU: ReadonlySet<number> = new Set([
  MapType.PERCPU_HASH,
  MapType.PERCPU_ARRAY,
  MapType.LRU_PERCPU_HASH,
]);

/** The kernel's description of a map (struct bpf_map_info). */
export interface MapInfo {
  readonly name: string;
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  /** Bytes of one value; a per-CPU map stores one for each possible CPU. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** BTF that the map was made with, and in it the types of its keys and values; 0: none. */
  readonly btfId: number;
  readonly btfKeyId: number;
  readonly btfValueId: number;
}

/**
 * A map by its file descriptor. Keys are `keySize` bytes; values are `storedSize` bytes: for per-CPU maps every possible CPU's
 * value, each padded to 8 bytes, one after the other (see `perCpuValues`), else `valueSize` bytes.
 */
export class BpfMap implements MapInfo {
  readonly name: string;
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly btfId: number;
  readonly btfKeyId: number;
  readonly btfValueId: number;
  readonly perCpu: boolean;
  readonly storedSize: number;

  /** `name` overrides the kernel's, which is cut at 15 characters. */
  constructor(
    readonly fd: number,
    name?: string,
  ) {
    const info = readMapInfo(fd);
    this.name = name ?? info.name;
    this.id = info.id;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.flags = info.flags;
    this.btfId = info.btfId;
    this.btfKeyId = info.btfKeyId;
    this.btfValueId = info.btfValueId;
    this.perCpu = PER_CPU.has(info.type);
    this.storedSize = this.perCpu ? roundUp8(info.valueSize) * possibleCpus() : info.valueSize;
  }

  /** The stored value, or undefined when the key is absent. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.storedSize);
    return this.lookupInto(key, value) ? value : undefined;
  }

  /** Reads into `value` (at least `storedSize` bytes); false when the key is absent. */
  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    this.checkKey(key);
    if (value.length < this.storedSize) throw this.sizeFault('value buffer', value.length, this.storedSize);
    const rc = native().bpf.mapLookup(this.fd, key, value);
    if (rc === 0) return true;
    if (rc === -Errno.ENOENT) return false;
    throw errnoFault(rc, `map ${this.name}: lookup of key ${hex(key)}`);
  }

  /**
   * Stores a value.
   * @throws Fault `exhausted` when the map is full, `conflict`/`not_found` for NOEXIST/EXIST that did not hold.
   */
  update(key: Uint8Array, value: Uint8Array, flags: number = UpdateFlag.ANY): void {
    const rc = this.updateRaw(key, value, flags);
    if (rc === 0) return;
    const remedy = rc === -Errno.E2BIG ? `the map holds at most ${this.maxEntries} entries` : undefined;
    throw errnoFault(rc, `map ${this.name}: update of key ${hex(key)}`, remedy);
  }

  /** Like `update`, with the outcomes that a caller expects as a value instead of a Fault. */
  tryUpdate(key: Uint8Array, value: Uint8Array, flags: number = UpdateFlag.ANY): UpdateResult {
    const rc = this.updateRaw(key, value, flags);
    switch (rc) {
      case 0:
        return 'stored';
      case -Errno.EEXIST:
        return 'exists';
      case -Errno.ENOENT:
        return 'absent';
      case -Errno.E2BIG:
        return 'full';
      default:
        throw errnoFault(rc, `map ${this.name}: update of key ${hex(key)}`);
    }
  }

  /** Removes a key; false when it was absent. */
  delete(key: Uint8Array): boolean {
    this.checkKey(key);
    const rc = native().bpf.mapDelete(this.fd, key);
    if (rc === 0) return true;
    if (rc === -Errno.ENOENT) return false;
    throw errnoFault(rc, `map ${this.name}: delete of key ${hex(key)}`);
  }

  /** The key after `key`, or the first; undefined at the end. A hash starts again when `key` was deleted meanwhile. */
  getNextKey(key?: Uint8Array): Uint8Array | undefined {
    if (key !== undefined) this.checkKey(key);
    const next = new Uint8Array(this.keySize);
    const rc = native().bpf.mapNextKey(this.fd, key ?? null, next);
    if (rc === 0) return next;
    if (rc === -Errno.ENOENT) return undefined;
    throw errnoFault(rc, `map ${this.name}: next key`);
  }

  /** Every key, one call each; for large maps use `readBatches`. Bounded by maxEntries. */
  *keys(): Generator<Uint8Array> {
    let key = this.getNextKey();
    for (let seen = 0; key !== undefined && seen < this.maxEntries; seen++) {
      const next = this.getNextKey(key);
      yield key;
      key = next;
    }
  }

  /** Pins the map under a path of a mounted bpffs. */
  pin(path: string): void {
    const rc = native().bpf.objPin(this.fd, path);
    if (rc !== 0) throw errnoFault(rc, `map ${this.name}: pin at ${path}`);
  }

  /** @throws Fault `invalid` when `key` is not exactly one key long. */
  checkKey(key: Uint8Array): void {
    if (key.length !== this.keySize) throw this.sizeFault('key', key.length, this.keySize);
  }

  private updateRaw(key: Uint8Array, value: Uint8Array, flags: number): number {
    this.checkKey(key);
    if (value.length !== this.storedSize) throw this.sizeFault('value', value.length, this.storedSize);
    return native().bpf.mapUpdate(this.fd, key, value, flags);
  }

  private sizeFault(what: string, got: number, want: number): Fault {
    return new Fault('invalid', `map ${this.name}: ${what} of ${got} bytes, expected ${want}`);
  }
}

let cpus: number | undefined;

/** CPUs that the kernel may ever bring up: the number of values in a per-CPU element. */
export function possibleCpus(): number {
  cpus ??= native().bpf.possibleCpus();
  if (cpus < 1) throw new Fault('internal', `possible CPUs: ${describeErrno(cpus)}`);
  return cpus;
}

/** Splits an element (or one of a batch) into the values of each possible CPU, as views; of a map that is not per CPU, its one value. */
export function perCpuValues(map: BpfMap, stored: Uint8Array): Uint8Array[] {
  if (!map.perCpu) return [stored];
  const stride = roundUp8(map.valueSize);
  return Array.from({ length: possibleCpus() }, (_, cpu) =>
    stored.subarray(cpu * stride, cpu * stride + map.valueSize),
  );
}

/** Opens a pinned map; the caller owns the returned descriptor (`closeFd`). */
export function openPinnedMap(path: string): BpfMap {
  const fd = native().bpf.objGet(path);
  if (fd < 0) throw errnoFault(fd, `pinned map ${path}`);
  return new BpfMap(fd);
}

/** Closes a descriptor that was opened from a pin. */
export function closeFd(fd: number): void {
  native().c.close(fd);
}

const MAP_INFO_BYTES = 88; // struct bpf_map_info as of Linux 5.16; the kernel fills what it knows

function readMapInfo(fd: number): MapInfo {
  const info = new Uint8Array(MAP_INFO_BYTES);
  const rc = native().bpf.infoByFd(fd, info, Uint32Array.of(info.length));
  if (rc !== 0) throw errnoFault(rc, `map of descriptor ${fd}: info`);
  const view = new DataView(info.buffer);
  const u32 = (at: number): number => view.getUint32(at, true);
  return {
    type: u32(0),
    id: u32(4),
    keySize: u32(8),
    valueSize: u32(12),
    maxEntries: u32(16),
    flags: u32(20),
    btfId: u32(64),
    btfKeyId: u32(68),
    btfValueId: u32(72),
    name: cString(info.subarray(24, 40)),
  };
}

/** A NUL-terminated C string of at most the given bytes. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

function roundUp8(bytes: number): number {
  return (bytes + 7) & ~7;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
