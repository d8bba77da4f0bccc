// SPDX-License-Identifier: Apache-2.0
// Turns an errno into the name and words that an operator can search for.
import { getSystemErrorMap } from 'node:util';
import { Fault, type FaultCode } from '@detour/core';
import koffi from 'koffi';

/** Linux errno values that this package decides on (asm-generic/errno*.h; the same on every architecture we run on). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  ENETDOWN: 100,
  EOPNOTSUPP: 95,
  ENOBUFS: 105,
  /** Kernel-internal; reaches user space from batch calls on maps that have none. */
  ENOTSUPP: 524,
} as const;

/** The errno of the last libc call that failed, or of the last libbpf call that returned NULL. */
export function lastErrno(): number {
  return koffi.errno();
}

/** `EPERM (operation not permitted)`; takes an errno or its negative. */
export function describeErrno(errno: number): string {
  const value = Math.abs(errno);
  if (value === Errno.EOPNOTSUPP) return 'EOPNOTSUPP (operation not supported)'; // Node says ENOTSUP, on a socket
  if (value === Errno.ENOTSUPP) return 'ENOTSUPP (not supported by this kernel)';
  const known = getSystemErrorMap().get(-value);
  return known === undefined ? `errno ${value}` : `${known[0]} (${known[1]})`;
}

const CODE_OF: Readonly<Record<number, FaultCode>> = {
  [Errno.EPERM]: 'permission',
  [Errno.EACCES]: 'permission',
  [Errno.ENOENT]: 'not_found',
  [Errno.ENODEV]: 'not_found',
  [Errno.EEXIST]: 'conflict',
  [Errno.EBUSY]: 'conflict',
  [Errno.E2BIG]: 'exhausted',
  [Errno.ENOMEM]: 'exhausted',
  [Errno.ENOSPC]: 'exhausted',
  [Errno.ENOBUFS]: 'exhausted',
  [Errno.EINVAL]: 'invalid',
  [Errno.EOPNOTSUPP]: 'missing_feature',
  [Errno.ENOTSUPP]: 'missing_feature',
};

/** `what` is what was being done, to which thing; `remedy` what the operator can do about it. */
export function errnoFault(errno: number, what: string, remedy?: string): Fault {
  const advice = remedy ?? (CODE_OF[Math.abs(errno)] === 'permission' ? PRIVILEGES : undefined);
  const detail = `${what}: ${describeErrno(errno)}${advice === undefined ? '' : `; ${advice}`}`;
  return new Fault(CODE_OF[Math.abs(errno)] ?? 'internal', detail);
}

/** The remedy for EPERM and EACCES of bpf(2) and friends. */
export const PRIVILEGES = 'run as root, or with CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN';
