// SPDX-License-Identifier: Apache-2.0
// The calls into libbpf.so.1 and libc that this package makes, declared once with their C prototypes and typed for the callers.
import { Fault } from '@detour/core';
import koffi from 'koffi';

/** A C pointer, as koffi passes it; null is NULL. */
export type Pointer = bigint;
/** Memory handed to C: a typed array whose length the caller has checked, or a pointer. */
export type Memory = Uint8Array | Uint32Array | Pointer | null;

/** libbpf 1.x: functions that return an int return a negative errno; functions that return a pointer return NULL and set errno. */
export interface Libbpf {
  setPrint(callback: Pointer | null): Pointer | null;
  objectOpen(path: string, opts: null): Pointer | null;
  objectLoad(object: Pointer): number;
  objectClose(object: Pointer): void;
  objectBtf(object: Pointer): Pointer | null;
  nextMap(object: Pointer, map: Pointer | null): Pointer | null;
  nextProgram(object: Pointer, program: Pointer | null): Pointer | null;
  mapName(map: Pointer): string;
  mapFd(map: Pointer): number;
  mapIsInternal(map: Pointer): boolean;
  mapSetMaxEntries(map: Pointer, entries: number): number;
  mapSetPinPath(map: Pointer, path: string): number;
  mapInitialValue(map: Pointer, size: [number | bigint]): Pointer | null;
  programName(program: Pointer): string;
  programFd(program: Pointer): number;
  programType(program: Pointer): number;
  programSetAutoload(program: Pointer, autoload: boolean): number;
  mapLookup(fd: number, key: Memory, value: Memory): number;
  mapUpdate(fd: number, key: Memory, value: Memory, flags: number): number;
  mapDelete(fd: number, key: Memory): number;
  mapNextKey(fd: number, key: Memory, next: Memory): number;
  mapLookupBatch(
    fd: number,
    inBatch: Memory,
    outBatch: Memory,
    keys: Memory,
    values: Memory,
    count: Uint32Array,
    opts: Memory,
  ): number;
  mapUpdateBatch(fd: number, keys: Memory, values: Memory, count: Uint32Array, opts: Memory): number;
  mapDeleteBatch(fd: number, keys: Memory, count: Uint32Array, opts: Memory): number;
  objPin(fd: number, path: string): number;
  objGet(path: string): number;
  infoByFd(fd: number, info: Memory, length: Uint32Array): number;
  linkCreate(programFd: number, ifindex: number, attachType: number, opts: Memory): number;
  linkUpdate(linkFd: number, programFd: number, opts: Memory): number;
  linkDetach(linkFd: number): number;
  xdpQuery(ifindex: number, flags: number, opts: Memory): number;
  progTestRun: TestRunCall;
  progLoad(type: number, name: string, license: string, insns: Memory, count: number, opts: Memory): number;
  probeProgType(type: number, opts: null): number;
  probeMapType(type: number, opts: null): number;
  probeHelper(progType: number, helper: number, opts: null): number;
  possibleCpus(): number;
  loadVmlinuxBtf(): Pointer | null;
  btfLoadFromKernel(id: number): Pointer | null;
  btfRawData(btf: Pointer, size: [number]): Pointer | null;
  btfFree(btf: Pointer): void;
  btfFindByNameKind(btf: Pointer, name: string, kind: number): number;
  btfTypeById(btf: Pointer, id: number): Pointer | null;
  btfNameByOffset(btf: Pointer, offset: number): string | null;
}

/** A call that can also be made on a thread of koffi's pool, for runs that would hold up the event loop. */
export interface TestRunCall {
  (fd: number, opts: Memory): number;
  async(fd: number, opts: Memory, done: (error: unknown, result: number) => void): void;
}

/** libc functions return -1 and set errno (koffi.errno()). */
export interface Libc {
  close(fd: number): number;
  mmap(
    at: Pointer | null,
    length: number,
    prot: number,
    flags: number,
    fd: number,
    offset: number,
  ): Pointer | null;
  munmap(at: Pointer, length: number): number;
  getpagesize(): number;
  mount(source: string, target: string, type: string, flags: number, data: null): number;
  ifNameToIndex(name: string): number;
  ifIndexToName(index: number, name: Memory): Pointer | null;
  vsnprintf(into: Memory, size: number, format: Pointer, args: Pointer): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Memory, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Memory, length: number): number;
  sendmmsg(fd: number, messages: Memory, count: number, flags: number): number;
  recvmmsg(fd: number, messages: Memory, count: number, flags: number, timeout: null): number;
}

export interface Native {
  readonly bpf: Libbpf;
  readonly c: Libc;
}

let loaded: Native | undefined;

/**
 * The two libraries, loaded at the first call.
 * @throws Fault `missing_feature` when libbpf.so.1 is not installed.
 */
export function native(): Native {
  loaded ??= { bpf: loadLibbpf(), c: loadLibc() };
  return loaded;
}

function loadLibbpf(): Libbpf {
  const lib = openLibrary();
  return {
    setPrint: lib.func('void *libbpf_set_print(void *fn)'),
    objectOpen: lib.func('void *bpf_object__open_file(const char *path, const void *opts)'),
    objectLoad: lib.func('int bpf_object__load(void *obj)'),
    objectClose: lib.func('void bpf_object__close(void *obj)'),
    objectBtf: lib.func('void *bpf_object__btf(const void *obj)'),
    nextMap: lib.func('void *bpf_object__next_map(const void *obj, const void *map)'),
    nextProgram: lib.func('void *bpf_object__next_program(const void *obj, void *prog)'),
    mapName: lib.func('const char *bpf_map__name(const void *map)'),
    mapFd: lib.func('int bpf_map__fd(const void *map)'),
    mapIsInternal: lib.func('bool bpf_map__is_internal(const void *map)'),
    mapSetMaxEntries: lib.func('int bpf_map__set_max_entries(void *map, uint32_t n)'),
    mapSetPinPath: lib.func('int bpf_map__set_pin_path(void *map, const char *path)'),
    mapInitialValue: lib.func('void *bpf_map__initial_value(void *map, _Out_ size_t *size)'),
    programName: lib.func('const char *bpf_program__name(const void *prog)'),
    programFd: lib.func('int bpf_program__fd(const void *prog)'),
    programType: lib.func('int bpf_program__type(const void *prog)'),
    programSetAutoload: lib.func('int bpf_program__set_autoload(void *prog, bool autoload)'),
    mapLookup: lib.func('int bpf_map_lookup_elem(int fd, const void *key, void *value)'),
    mapUpdate: lib.func(
      'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
    ),
    mapDelete: lib.func('int bpf_map_delete_elem(int fd, const void *key)'),
    mapNextKey: lib.func('int bpf_map_get_next_key(int fd, const void *key, void *next)'),
    mapLookupBatch: lib.func(
      'int bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, void *count, const void *opts)',
    ),
    mapUpdateBatch: lib.func(
      'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, const void *opts)',
    ),
    mapDeleteBatch: lib.func(
      'int bpf_map_delete_batch(int fd, const void *keys, void *count, const void *opts)',
    ),
    objPin: lib.func('int bpf_obj_pin(int fd, const char *path)'),
    objGet: lib.func('int bpf_obj_get(const char *path)'),
    infoByFd: lib.func('int bpf_obj_get_info_by_fd(int fd, void *info, void *length)'),
    linkCreate: lib.func('int bpf_link_create(int prog, int target, int type, const void *opts)'),
    linkUpdate: lib.func('int bpf_link_update(int link, int prog, const void *opts)'),
    linkDetach: lib.func('int bpf_link_detach(int link)'),
    xdpQuery: lib.func('int bpf_xdp_query(int ifindex, int flags, void *opts)'),
    progTestRun: lib.func('int bpf_prog_test_run_opts(int prog, void *opts)'),
    progLoad: lib.func(
      'int bpf_prog_load(int type, const char *name, const char *license, const void *insns, size_t count, const void *opts)',
    ),
    probeProgType: lib.func('int libbpf_probe_bpf_prog_type(int type, const void *opts)'),
    probeMapType: lib.func('int libbpf_probe_bpf_map_type(int type, const void *opts)'),
    probeHelper: lib.func('int libbpf_probe_bpf_helper(int type, int helper, const void *opts)'),
    possibleCpus: lib.func('int libbpf_num_possible_cpus(void)'),
    loadVmlinuxBtf: lib.func('void *btf__load_vmlinux_btf(void)'),
    btfLoadFromKernel: lib.func('void *btf__load_from_kernel_by_id(uint32_t id)'),
    btfRawData: lib.func('const void *btf__raw_data(const void *btf, _Out_ uint32_t *size)'),
    btfFree: lib.func('void btf__free(void *btf)'),
    btfFindByNameKind: lib.func(
      'int btf__find_by_name_kind(const void *btf, const char *name, uint32_t kind)',
    ),
    btfTypeById: lib.func('const void *btf__type_by_id(const void *btf, uint32_t id)'),
    btfNameByOffset: lib.func('const char *btf__name_by_offset(const void *btf, uint32_t offset)'),
  };
}

function openLibrary(): ReturnType<typeof koffi.load> {
  try {
    return koffi.load('libbpf.so.1');
  } catch (cause) {
    throw new Fault(
      'missing_feature',
      'libbpf.so.1 cannot be loaded: install it (Debian: apt-get install libbpf1)',
      cause,
    );
  }
}

function loadLibc(): Libc {
  const lib = koffi.load('libc.so.6');
  return {
    close: lib.func('int close(int fd)'),
    mmap: lib.func('void *mmap(void *at, size_t length, int prot, int flags, int fd, int64_t offset)'),
    munmap: lib.func('int munmap(void *at, size_t length)'),
    getpagesize: lib.func('int getpagesize(void)'),
    mount: lib.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)',
    ),
    ifNameToIndex: lib.func('uint32_t if_nametoindex(const char *name)'),
    ifIndexToName: lib.func('void *if_indextoname(uint32_t index, void *name)'),
    vsnprintf: lib.func('int vsnprintf(void *into, size_t size, const void *format, void *args)'),
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    bind: lib.func('int bind(int fd, const void *address, uint32_t length)'),
    setsockopt: lib.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)'),
    sendmmsg: lib.func('int sendmmsg(int fd, void *messages, uint32_t count, int flags)'),
    recvmmsg: lib.func('int recvmmsg(int fd, void *messages, uint32_t count, int flags, void *timeout)'),
  };
}
