// SPDX-License-Identifier: Apache-2.0
// Runs a loaded program on given packets inside the kernel (BPF_PROG_TEST_RUN), without any device traffic.
import type { Fault } from '@detour/core';
import koffi from 'koffi';
import { Errno, errnoFault } from './errno.js';
import { native } from './native.js';
import type { BpfProgram } from './program.js';

/** The part of struct xdp_md that a test run may set. */
export interface XdpContext {
  /** Device that the packet seems to come from; it must have a registered receive queue (a veth with XDP attached has). */
  readonly ifindex: number;
  readonly rxQueue?: number;
}

export interface TestRunOptions {
  /** The frame, at least 14 bytes; without fragments the kernel takes about 3.5 kB. */
  readonly data: Uint8Array;
  readonly ctx?: XdpContext;
  /** Runs on the same, possibly rewritten, data; default 1. */
  readonly repeat?: number;
  /** Room for the outcome in bytes; default the frame's length + 256. */
  readonly outSize?: number;
  /** Put real frames through: XDP_TX, redirect and pass take effect; neither `data` nor `durationNs` comes back. */
  readonly liveFrames?: boolean;
  /** Frames in flight with liveFrames; the kernel's default is 64. */
  readonly batchSize?: number;
}

export interface TestRunResult {
  /** What the program returned: for XDP 0 aborted, 1 drop, 2 pass, 3 tx, 4 redirect. */
  readonly retval: number;
  /** The frame as the program left it; empty with liveFrames. */
  readonly data: Uint8Array;
  /** Mean nanoseconds of one run. */
  readonly durationNs: number;
}

const LIVE_FRAMES = 2; // BPF_F_TEST_XDP_LIVE_FRAMES
const OPTS_BYTES = 80; // struct bpf_test_run_opts of libbpf 1.x
const XDP_MD_BYTES = 24;
const ROOM_FOR_HEADERS = 256;

/** @throws Fault `not_found` for an unknown ifindex, `invalid` for a frame or context that the kernel does not take. */
export function progTestRun(program: BpfProgram, options: TestRunOptions): TestRunResult {
  const call = prepareRun(options);
  return call.finish(program, native().bpf.progTestRun(program.fd, call.opts));
}

/** The same on another thread: the event loop goes on. */
export function progTestRunAsync(program: BpfProgram, options: TestRunOptions): Promise<TestRunResult> {
  const call = prepareRun(options);
  return new Promise((resolve, reject) => {
    native().bpf.progTestRun.async(program.fd, call.opts, (error, rc) => {
      if (error !== null && error !== undefined) return reject(error);
      try {
        resolve(call.finish(program, rc));
      } catch (fault) {
        reject(fault);
      }
    });
  });
}

interface PreparedRun {
  readonly opts: Uint8Array;
  finish(program: BpfProgram, rc: number): TestRunResult;
}

function prepareRun(options: TestRunOptions): PreparedRun {
  const live = options.liveFrames === true;
  const data = options.data;
  const out = live ? undefined : new Uint8Array(options.outSize ?? data.length + ROOM_FOR_HEADERS);
  const context = options.ctx === undefined ? undefined : encodeContext(options.ctx, data.length);
  const opts = new Uint8Array(OPTS_BYTES);
  const view = new DataView(opts.buffer);
  const pointer = (at: number, bytes: Uint8Array | undefined): void => {
    if (bytes !== undefined && bytes.length > 0) view.setBigUint64(at, koffi.address(bytes), true);
  };
  view.setBigUint64(0, BigInt(OPTS_BYTES), true);
  pointer(8, data);
  pointer(16, out);
  view.setUint32(24, data.length, true);
  view.setUint32(28, out?.length ?? 0, true);
  pointer(32, context);
  view.setUint32(48, context?.length ?? 0, true);
  view.setInt32(60, options.repeat ?? 1, true);
  view.setUint32(68, live ? LIVE_FRAMES : 0, true);
  view.setUint32(76, options.batchSize ?? 0, true);
  return {
    opts,
    finish: (program, rc) => {
      // `data`, `out` and `context` are referenced here, so that their memory outlives the call.
      if (rc !== 0)
        throw runFault(
          program,
          rc,
          data.length,
          out?.length ?? 0,
          context !== undefined ? options.ctx : undefined,
        );
      return {
        retval: view.getUint32(56, true),
        data: out?.subarray(0, Math.min(view.getUint32(28, true), out.length)) ?? new Uint8Array(0),
        durationNs: view.getUint32(64, true),
      };
    },
  };
}

function encodeContext(context: XdpContext, dataLength: number): Uint8Array {
  const bytes = new Uint8Array(XDP_MD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, dataLength, true); // data_end; data and data_meta stay 0
  view.setUint32(12, context.ifindex, true);
  view.setUint32(16, context.rxQueue ?? 0, true);
  return bytes;
}

function runFault(
  program: BpfProgram,
  rc: number,
  length: number,
  room: number,
  context?: XdpContext,
): Fault {
  const what = `test run of ${program.name} on ${length} bytes${context === undefined ? '' : ` from ifindex ${context.ifindex}`}`;
  switch (-rc) {
    case Errno.ENOSPC:
      return errnoFault(rc, what, `the outcome is longer than outSize, ${room} bytes`);
    case Errno.ENODEV:
      return errnoFault(rc, what, 'no such device in this network namespace');
    case Errno.EINVAL:
      return errnoFault(
        rc,
        what,
        'give 14 to about 3500 bytes, and a device whose receive queue is registered (a veth with an XDP program)',
      );
    default:
      return errnoFault(rc, what);
  }
}
