// SPDX-License-Identifier: Apache-2.0
// Asks the running kernel for single abilities: a helper, a map or program type, a structure, a flag of a helper.
import koffi from 'koffi';
import { describeErrno, Errno, errnoFault, lastErrno } from './errno.js';
import { captureLibbpfLog } from './libbpf-log.js';
import { closeFd, cString } from './map.js';
import { native } from './native.js';
import { progTestRun } from './test-run.js';

/** One ability of this machine, and what to do where it is missing. */
export interface Feature {
  readonly feature: string;
  readonly present: boolean;
  /** What was found. */
  readonly detail: string;
  readonly remedy: string;
}

const NEWER_KERNEL = 'run a kernel that has it (6.1 or newer, Debian 12 has 6.1), with the option built in';
export const PROG_TYPE_XDP = 6;
const BTF_KIND_STRUCT = 4;
const LOG_BYTES = 16_384;
const LOAD_OPTS_BYTES = 104; // struct bpf_prog_load_opts of libbpf 1.1

/**
 * Whether programs of a type (linux/bpf.h enum bpf_prog_type) may call a helper (by its id). libbpf_probe_bpf_helper 1.1 takes
 * newer kernels' "program of this type cannot use helper" for consent, so the verifier's answer is read here.
 * @throws Fault `permission` when the kernel does not let us ask.
 */
export function probeHelper(progType: number, helperId: number): Feature {
  const code = assemble([CALL, 0, 0, 0, helperId], [EXIT, 0, 0, 0, 0]);
  const { fd, log } = loadProgram(progType, code);
  if (fd >= 0) closeFd(fd);
  if (fd === -Errno.EPERM && log === '') throw errnoFault(fd, `probe of helper ${helperId}`);
  const refusal = /(?:invalid func|unknown func|cannot use helper).*/.exec(log)?.[0];
  const typeKnown = native().bpf.probeProgType(progType, null) === 1;
  return {
    feature: `helper ${helperId} for program type ${progType}`,
    present: refusal === undefined && typeKnown,
    detail: !typeKnown ? `program type ${progType} is unknown` : (refusal ?? 'the verifier knows it'),
    remedy: NEWER_KERNEL,
  };
}

/** Whether maps of a type (enum bpf_map_type) can be made. */
export function probeMapType(type: number): Feature {
  return probed(`map type ${type}`, native().bpf.probeMapType(type, null));
}

/** Whether programs of a type (enum bpf_prog_type) can be loaded. */
export function probeProgType(type: number): Feature {
  return probed(`program type ${type}`, native().bpf.probeProgType(type, null));
}

/** Whether a structure is compiled into this kernel (not into a module), by the kernel's BTF. */
export function probeKernelStruct(name: string): Feature {
  const { bpf } = native();
  const { result: btf } = captureLibbpfLog(() => bpf.loadVmlinuxBtf());
  const feature = `kernel struct ${name}`;
  if (btf === null) {
    return {
      feature,
      present: false,
      detail: `the kernel's BTF: ${describeErrno(lastErrno())}`,
      remedy: BTF_REMEDY,
    };
  }
  try {
    const present = bpf.btfFindByNameKind(btf, name, BTF_KIND_STRUCT) >= 0;
    return {
      feature,
      present,
      detail: present ? 'in the kernel BTF' : 'not in the kernel BTF',
      remedy: NEWER_KERNEL,
    };
  } finally {
    bpf.btfFree(btf);
  }
}

export const BTF_REMEDY = 'run a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian kernels are)';

/**
 * Whether bpf_fib_lookup can read a routing table by its id (BPF_FIB_LOOKUP_TBID, Linux 6.6 and stable builds of 6.1 that took it over):
 * asked by running it, for a version says too little.
 */
export function probeFibLookupByTable(): Feature {
  const feature = 'bpf_fib_lookup by table id';
  const remedy = "run Linux 6.6, a newer build of Debian 12's 6.1, or let VRFs be looked up by ip rules";
  const { fd, log } = loadProgram(PROG_TYPE_XDP, fibLookupProgram());
  if (fd < 0) return { feature, present: false, detail: `${describeErrno(fd)} ${log}`.trim(), remedy };
  try {
    const { retval } = progTestRun(
      { fd, name: 'probe_fib', type: PROG_TYPE_XDP },
      { data: new Uint8Array(64) },
    );
    const answer = retval | 0;
    const present = answer >= 0;
    return { feature, present, detail: present ? `answers ${answer}` : describeErrno(answer), remedy };
  } finally {
    closeFd(fd);
  }
}

function probed(feature: string, answer: number): Feature {
  const unknown = answer === -Errno.EOPNOTSUPP;
  if (answer < 0 && !unknown) throw errnoFault(answer, `probe of ${feature}`);
  const detail = unknown
    ? 'libbpf does not know it'
    : answer === 1
      ? 'the kernel makes one'
      : 'the kernel refuses it';
  return { feature, present: answer === 1, detail, remedy: NEWER_KERNEL };
}

type Instruction = readonly [op: number, dst: number, src: number, off: number, imm: number];

// Opcodes (Linux, Documentation/bpf/standardization/instruction-set.rst).
const CALL = 0x85;
const EXIT = 0x95;
const MOV_REG = 0xbf;
const MOV_IMM = 0xb7;
const ADD_IMM = 0x07;
const STORE_B = 0x72;
const STORE_W = 0x62;
const STORE_DW = 0x7a;
const [R1, R2, R3, R4, R6, FP] = [1, 2, 3, 4, 6, 10];

/** return bpf_fib_lookup(ctx, &{ family AF_INET, ifindex 1, tbid 254 }, 64, BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID) */
function fibLookupProgram(): Uint8Array {
  const params = -64;
  const zero: Instruction[] = Array.from({ length: 8 }, (_, i) => [STORE_DW, FP, 0, params + 8 * i, 0]);
  return assemble(
    [MOV_REG, R6, R1, 0, 0],
    ...zero,
    [STORE_B, FP, 0, params, 2],
    [STORE_W, FP, 0, params + 8, 1],
    [STORE_W, FP, 0, params + 48, 254],
    [MOV_REG, R1, R6, 0, 0],
    [MOV_REG, R2, FP, 0, 0],
    [ADD_IMM, R2, 0, 0, params],
    [MOV_IMM, R3, 0, 0, 64],
    [MOV_IMM, R4, 0, 0, 1 | 8],
    [CALL, 0, 0, 0, 69],
    [EXIT, 0, 0, 0, 0],
  );
}

function assemble(...code: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(code.length * 8));
  for (const [i, [op, dst, src, off, imm]] of code.entries()) {
    view.setUint8(i * 8, op);
    view.setUint8(i * 8 + 1, dst | (src << 4));
    view.setInt16(i * 8 + 2, off, true);
    view.setInt32(i * 8 + 4, imm, true);
  }
  return new Uint8Array(view.buffer);
}

/** Loads raw instructions; `fd` is a negative errno when the verifier refused them, with its log. */
function loadProgram(type: number, code: Uint8Array): { fd: number; log: string } {
  const log = new Uint8Array(LOG_BYTES);
  const opts = new Uint8Array(LOAD_OPTS_BYTES);
  const view = new DataView(opts.buffer);
  view.setBigUint64(0, BigInt(LOAD_OPTS_BYTES), true);
  view.setUint32(88, 1, true); // log_level
  view.setUint32(92, LOG_BYTES, true);
  view.setBigUint64(96, koffi.address(log), true);
  const { result: fd } = captureLibbpfLog(() =>
    native().bpf.progLoad(type, 'detour_probe', 'GPL', code, code.length / 8, opts),
  );
  return { fd, log: cString(log).trim() };
}
