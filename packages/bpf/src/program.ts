// SPDX-License-Identifier: Apache-2.0
// A loaded BPF program by its file descriptor: pinning, opening from a pin, run statistics.
import { errnoFault } from './errno.js';
import { cString } from './map.js';
import { native } from './native.js';

export interface BpfProgram {
  readonly name: string;
  readonly fd: number;
  /** linux/bpf.h enum bpf_prog_type; 6 is XDP. */
  readonly type: number;
}

export interface ProgramInfo {
  /** Cut at 15 characters by the kernel. */
  readonly name: string;
  readonly id: number;
  readonly type: number;
  /** Runs and nanoseconds in them, while `kernel.bpf_stats_enabled` is 1. */
  readonly runCount: bigint;
  readonly runTimeNs: bigint;
  /** Instructions that the verifier walked (its limit is 1,000,000). */
  readonly verifiedInstructions: number;
}

/** Names a descriptor that libbpf owns. */
export function programOf(fd: number, name: string, type: number): BpfProgram {
  return { fd, name, type };
}

/** Pins the program under a path of a mounted bpffs. */
export function pinProgram(program: BpfProgram, path: string): void {
  const rc = native().bpf.objPin(program.fd, path);
  if (rc !== 0) throw errnoFault(rc, `program ${program.name}: pin at ${path}`);
}

/** Opens a pinned program; the caller owns the descriptor (`closeFd`). */
export function openPinnedProgram(path: string): BpfProgram {
  const fd = native().bpf.objGet(path);
  if (fd < 0) throw errnoFault(fd, `pinned program ${path}`);
  const info = programInfo(fd);
  return programOf(fd, info.name, info.type);
}

const PROG_INFO_BYTES = 232; // struct bpf_prog_info; the kernel fills what it knows

/** What the kernel says of a program (struct bpf_prog_info). */
export function programInfo(fd: number): ProgramInfo {
  const info = new Uint8Array(PROG_INFO_BYTES);
  const rc = native().bpf.infoByFd(fd, info, Uint32Array.of(info.length));
  if (rc !== 0) throw errnoFault(rc, `program of descriptor ${fd}: info`);
  const view = new DataView(info.buffer);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    name: cString(info.subarray(64, 80)),
    runTimeNs: view.getBigUint64(192, true),
    runCount: view.getBigUint64(200, true),
    verifiedInstructions: view.getUint32(216, true),
  };
}
