// SPDX-License-Identifier: Apache-2.0
// Attaches XDP programs to devices by BPF links: pinned, a link keeps its program at work when this process is gone.
import { unlinkSync } from 'node:fs';
import { Fault } from '@detour/core';
import { describeErrno, Errno, errnoFault } from './errno.js';
import { closeFd, cString } from './map.js';
import { native } from './native.js';
import type { BpfProgram } from './program.js';

/** native: in the device's driver; generic: in the stack, slower, on any device. */
export type XdpMode = 'native' | 'generic';

export interface XdpLink extends Disposable {
  readonly fd: number;
  readonly ifindex: number;
  readonly mode: XdpMode;
  /** With mode `auto`: why native was not possible, when the link is generic. */
  readonly nativeRefused?: string;
  /** Keeps the link, and so the program, alive under a path of a mounted bpffs (no dots in names). */
  pin(path: string): void;
  /** Puts another program in the place of the present one: no packet sees neither. With `expected`, only in place of that one. */
  update(program: BpfProgram, expected?: BpfProgram): void;
  /** Whether the program is still on its device: whoever may can take it off by its link, and a device can go. */
  isAttached(): boolean;
  /** Takes the program off the device, pinned or not. */
  detach(): void;
  /** Closes the descriptor: a link that is not pinned is detached by that. */
  close(): void;
}

const BPF_XDP = 37;
const LINK_TYPE_XDP = 6;
const FLAGS: Readonly<Record<XdpMode, number>> = { generic: 2, native: 4 };
const LINK_OPTS_BYTES = 64;
const LINK_INFO_BYTES = 48;
const BPF_F_REPLACE = 4;

/**
 * The index of a device in this network namespace.
 * @throws Fault `not_found`
 */
export function ifindex(name: string): number {
  const index = native().c.ifNameToIndex(name);
  if (index === 0) throw new Fault('not_found', `device ${name} does not exist in this network namespace`);
  return index;
}

/**
 * Attaches a program. `auto` tries native, then generic.
 * @throws Fault `conflict` when the device has an XDP program already, `not_found` when there is no device, `missing_feature`
 * when the driver cannot, `permission`.
 */
export function attachXdp(program: BpfProgram, device: number, mode: XdpMode | 'auto'): XdpLink {
  if (mode !== 'auto') {
    const fd = createLink(program, device, mode);
    if (fd < 0) throw attachFault(program, device, mode, fd);
    return linkOf(fd, device, mode);
  }
  const fd = createLink(program, device, 'native');
  if (fd >= 0) return linkOf(fd, device, 'native');
  const refusal = attachFault(program, device, 'native', fd);
  if (refusal.code === 'permission' || refusal.code === 'conflict' || refusal.code === 'not_found')
    throw refusal;
  const second = createLink(program, device, 'generic');
  if (second >= 0) return linkOf(second, device, 'generic', refusal.detail);
  const both = attachFault(program, device, 'generic', second);
  throw new Fault(both.code, `${refusal.detail}; and ${both.detail}`);
}

/**
 * Opens a pinned link.
 * @throws Fault `not_found` when there is no pin, or when its device is gone (remove the pin then); `invalid` when it is no XDP link.
 */
export function openXdpLink(path: string): XdpLink {
  const fd = native().bpf.objGet(path);
  if (fd < 0) throw errnoFault(fd, `pinned link ${path}`);
  try {
    const info = linkInfo(fd, path);
    if (info.type !== LINK_TYPE_XDP)
      throw new Fault('invalid', `pinned link ${path} is no XDP link (type ${info.type})`);
    if (info.ifindex === 0)
      throw new Fault('not_found', `pinned link ${path}: its device is gone; remove the pin`);
    return linkOf(fd, info.ifindex, attachedMode(info.ifindex, info.programId));
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Id of the program that a link runs. */
export function linkProgramId(link: XdpLink): number {
  return linkInfo(link.fd, `link on ifindex ${link.ifindex}`).programId;
}

/** Removes a pin of a link, program or map; false when there was none. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw new Fault('permission', `pin ${path} cannot be removed`, error);
  }
}

function createLink(program: BpfProgram, device: number, mode: XdpMode): number {
  const opts = new Uint8Array(LINK_OPTS_BYTES);
  const view = new DataView(opts.buffer);
  view.setBigUint64(0, BigInt(LINK_OPTS_BYTES), true);
  view.setUint32(8, FLAGS[mode], true);
  return native().bpf.linkCreate(program.fd, device, BPF_XDP, opts);
}

function linkOf(fd: number, device: number, mode: XdpMode, nativeRefused?: string): XdpLink {
  const { bpf } = native();
  const named = `XDP link on ifindex ${device}`;
  let open = true;
  const close = (): void => {
    if (open) closeFd(fd);
    open = false;
  };
  return {
    fd,
    ifindex: device,
    mode,
    ...(nativeRefused === undefined ? {} : { nativeRefused }),
    pin: (path) => {
      const rc = bpf.objPin(fd, path);
      if (rc !== 0)
        throw errnoFault(
          rc,
          `${named}: pin at ${path}`,
          'give a free path on a mounted bpffs, its names without dots',
        );
    },
    update: (program, expected) => {
      const opts = new Uint8Array(16);
      const view = new DataView(opts.buffer);
      view.setBigUint64(0, 16n, true);
      view.setUint32(8, expected === undefined ? 0 : BPF_F_REPLACE, true);
      view.setUint32(12, expected?.fd ?? 0, true);
      const rc = bpf.linkUpdate(fd, program.fd, opts);
      if (rc === -Errno.EPERM && expected !== undefined) {
        throw new Fault('conflict', `${named} does not run ${expected.name}: somebody else changed it`);
      }
      if (rc !== 0) throw errnoFault(rc, `${named}: update to program ${program.name}`);
    },
    isAttached: () => linkInfo(fd, named).ifindex === device,
    detach: () => {
      const rc = bpf.linkDetach(fd);
      if (rc !== 0) throw errnoFault(rc, `${named}: detach`);
    },
    close,
    [Symbol.dispose]: close,
  };
}

function linkInfo(fd: number, what: string): { type: number; programId: number; ifindex: number } {
  const info = new Uint8Array(LINK_INFO_BYTES);
  const rc = native().bpf.infoByFd(fd, info, Uint32Array.of(info.length));
  if (rc !== 0) throw errnoFault(rc, `${what}: info`);
  const view = new DataView(info.buffer);
  return {
    type: view.getUint32(0, true),
    programId: view.getUint32(8, true),
    ifindex: view.getUint32(16, true),
  };
}

/** Which of the device's XDP places a program holds (struct bpf_xdp_query_opts). */
function attachedMode(device: number, programId: number): XdpMode {
  const opts = new Uint8Array(32);
  const view = new DataView(opts.buffer);
  view.setBigUint64(0, 32n, true);
  const rc = native().bpf.xdpQuery(device, 0, opts);
  if (rc !== 0) throw errnoFault(rc, `XDP state of ifindex ${device}`);
  return view.getUint32(20, true) === programId ? 'generic' : 'native'; // 20: skb_prog_id
}

function deviceName(device: number): string | undefined {
  const name = new Uint8Array(16);
  return native().c.ifIndexToName(device, name) === null ? undefined : cString(name);
}

function attachFault(program: BpfProgram, device: number, mode: XdpMode, errno: number): Fault {
  const name = deviceName(device);
  if (name === undefined)
    return new Fault('not_found', `no device with ifindex ${device} in this network namespace`);
  const what = `XDP program ${program.name} on ${name}, mode ${mode}`;
  const instead = mode === 'native' ? 'use attachMode generic or another device' : 'use another device';
  switch (-errno) {
    case Errno.EBUSY:
    case Errno.EEXIST:
      return errnoFault(
        errno,
        what,
        `another XDP program is attached; see \`bpftool net\`, remove it: \`ip link set dev ${name} xdp off\``,
      );
    case Errno.EOPNOTSUPP:
      return errnoFault(errno, what, `the driver has no XDP in this mode; ${instead}`);
    case Errno.ERANGE:
      return new Fault(
        'missing_feature',
        `${what}: ${describeErrno(errno)}; the MTU (or a veth peer's) is too large; lower it, or ${instead}`,
      );
    case Errno.EINVAL:
      return new Fault(
        'missing_feature',
        `${what}: ${describeErrno(errno)}; the program is no XDP program, or the MTU or offloads (LRO) rule XDP out; ${instead}`,
      );
    default:
      return errnoFault(errno, what);
  }
}
