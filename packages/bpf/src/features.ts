// SPDX-License-Identifier: Apache-2.0
// What the datapath needs of this machine: probed at start, reported whole, refused in one clear Fault.
import { existsSync, mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { Fault } from '@detour/core';
import { errnoFault, lastErrno } from './errno.js';
import { MapType } from './map.js';
import { native } from './native.js';
import {
  BTF_REMEDY,
  type Feature,
  PROG_TYPE_XDP,
  probeHelper,
  probeKernelStruct,
  probeMapType,
  probeProgType,
} from './probe.js';

const BPF_FS_MAGIC = 0xcafe4a11;
const HELPER_FIB_LOOKUP = 69;
const OLDEST_KERNEL = [6, 1] as const;

/** The kernel abilities that a gateway cannot do without. Asks the kernel; takes about a tenth of a second. */
export function probeFeatures(options: { readonly bpffs: string }): Feature[] {
  const kernel = probeKernelVersion(release());
  const privileges = probePrivileges(readFileSync('/proc/self/status', 'utf8'));
  if (!privileges.present) return [kernel, privileges]; // without them the other answers would only say so again
  return [
    kernel,
    privileges,
    probeBtf(),
    probeBpffs(options.bpffs),
    { ...probeProgType(PROG_TYPE_XDP), feature: 'XDP programs' },
    { ...probeKernelStruct('bpf_xdp_link'), feature: 'XDP links' },
    { ...probeMapType(MapType.RINGBUF), feature: 'ring buffer maps' },
    { ...probeHelper(PROG_TYPE_XDP, HELPER_FIB_LOOKUP), feature: 'bpf_fib_lookup' },
  ];
}

/** @throws Fault `missing_feature` (or `permission`, when only privileges are missing) naming every missing one and its remedy. */
export function requireFeatures(features: readonly Feature[]): void {
  const missing = features.filter((feature) => !feature.present);
  if (missing.length === 0) return;
  const list = missing.map(({ feature, detail, remedy }) => `${feature} (${detail}): ${remedy}`);
  const code = missing.every(({ feature }) => feature === PRIVILEGES_FEATURE)
    ? 'permission'
    : 'missing_feature';
  throw new Fault(code, `this machine lacks ${list.join('; ')}`);
}

/** `text` is what uname -r prints. */
export function probeKernelVersion(text: string): Feature {
  const [major = 0, minor = 0] = text.split('.').map((part) => Number.parseInt(part, 10));
  const present = major > OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor >= OLDEST_KERNEL[1]);
  return {
    feature: `kernel ${OLDEST_KERNEL.join('.')} or newer`,
    present,
    detail: `this is ${text}`,
    remedy: 'boot a newer kernel',
  };
}

const PRIVILEGES_FEATURE = 'privileges';
const CAP = { NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21, PERFMON: 38, BPF: 39 } as const;

/** `status` is the text of /proc/self/status. */
export function probePrivileges(status: string): Feature {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
  const missing: string[] = [];
  if (!has(CAP.BPF) && !has(CAP.SYS_ADMIN)) missing.push('CAP_BPF');
  if (!has(CAP.PERFMON) && !has(CAP.SYS_ADMIN)) missing.push('CAP_PERFMON');
  if (!has(CAP.NET_ADMIN)) missing.push('CAP_NET_ADMIN');
  if (!has(CAP.NET_RAW)) missing.push('CAP_NET_RAW');
  return {
    feature: PRIVILEGES_FEATURE,
    present: missing.length === 0,
    detail: missing.length === 0 ? 'all there' : `missing ${missing.join(', ')}`,
    remedy: 'run as root, or grant NET_ADMIN, NET_RAW and either SYS_ADMIN or BPF and PERFMON',
  };
}

function probeBtf(): Feature {
  const path = '/sys/kernel/btf/vmlinux';
  const present = existsSync(path);
  return {
    feature: 'kernel BTF',
    present,
    detail: present ? path : `${path} does not exist`,
    remedy: BTF_REMEDY,
  };
}

/** Whether `path` is on a mounted bpffs (or would be, if it were made). */
export function probeBpffs(path: string): Feature {
  const present = isBpffs(path);
  return {
    feature: `bpffs at ${path}`,
    present,
    detail: present ? 'mounted' : 'another file system',
    remedy: `mkdir -p ${path} && mount -t bpf bpf ${path}`,
  };
}

function isBpffs(path: string): boolean {
  let existing = path;
  while (!existsSync(existing)) existing = dirname(existing);
  return statfsSync(existing).type === BPF_FS_MAGIC;
}

/**
 * Makes `path` a directory on a bpffs, and mounts one there unless it is on one already. Returns whether it mounted. A process
 * under `ip netns exec` has a /sys of its own: what it mounts there nobody else sees; enter namespaces by nsenter or setns.
 * @throws Fault `permission` with the command that an administrator can run instead.
 */
export function ensureBpffs(path: string): boolean {
  const mounted = isBpffs(path);
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new Fault(
      'permission',
      `directory ${path} for pins cannot be made; on a bpffs, names have no dots`,
      cause,
    );
  }
  if (mounted) return false;
  if (native().c.mount('bpf', path, 'bpf', 0, null) !== 0) {
    throw errnoFault(
      lastErrno(),
      `bpffs at ${path} cannot be mounted`,
      `as root: ${probeBpffs(path).remedy}`,
    );
  }
  return true;
}
