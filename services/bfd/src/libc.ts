// SPDX-License-Identifier: Apache-2.0
// The calls into libc that BFD needs and Node.js has not, each with its C prototype; Linux constants by their C names.

import { getSystemErrorMap } from 'node:util';
import { Fault, type FaultCode } from '@detour/core';
import koffi from 'koffi';

/** Memory handed to C; null is NULL. The caller keeps it alive during the call. */
export type Memory = Uint8Array | Uint32Array | Int32Array | BigInt64Array | null;

/** libc functions that return -1 and set errno; none of them blocks except ppoll. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Memory, lenBytes: number): number;
  setsockopt(fd: number, level: number, name: number, value: Memory, lenBytes: number): number;
  sendto(fd: number, data: Memory, lenBytes: number, flags: number, to: Memory, toLenBytes: number): number;
  recv(fd: number, into: Memory, lenBytes: number, flags: number): number;
  recvmmsg(fd: number, messages: Memory, count: number, flags: number, timeout: null): number;
  ppoll(fds: Memory, count: number, timeout: Memory, mask: null): number;
  eventfd(initial: number, flags: number): number;
  read(fd: number, into: Memory, lenBytes: number): number;
  write(fd: number, from: Memory, lenBytes: number): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  /** 0 when there is no such device. */
  ifNametoindex(name: string): number;
  schedSetscheduler(pid: number, policy: number, param: Memory): number;
}

/** Linux values, the same on x86-64 and arm64 (asm-generic). */
export const C = {
  AF_INET: 2,
  AF_INET6: 10,
  AF_NETLINK: 16,
  AF_PACKET: 17,
  SOCK_DGRAM: 2,
  SOCK_RAW: 3,
  SOCK_CLOEXEC: 0o2000000,
  SOCK_NONBLOCK: 0o4000,
  SOL_SOCKET: 1,
  SO_BINDTODEVICE: 25,
  SO_ATTACH_FILTER: 26,
  SO_RCVBUFFORCE: 33,
  SO_RCVTIMEO: 20,
  SOL_NETLINK: 270,
  NETLINK_GET_STRICT_CHK: 12,
  SO_PRIORITY: 12,
  IPPROTO_IP: 0,
  IP_TOS: 1,
  IP_TTL: 2,
  IP_PKTINFO: 8,
  IP_RECVTTL: 12,
  IPPROTO_IPV6: 41,
  IPV6_UNICAST_HOPS: 16,
  IPV6_V6ONLY: 26,
  IPV6_RECVPKTINFO: 49,
  IPV6_PKTINFO: 50,
  IPV6_RECVHOPLIMIT: 51,
  IPV6_HOPLIMIT: 52,
  IPV6_TCLASS: 67,
  MSG_DONTWAIT: 0x40,
  MSG_TRUNC: 0x20,
  EFD_CLOEXEC: 0o2000000,
  EFD_NONBLOCK: 0o4000,
  POLLIN: 1,
  O_RDONLY: 0,
  CLONE_NEWNET: 0x40000000,
  SCHED_RR: 2,
  /** Threads and processes that are made from now on have no real-time priority. */
  SCHED_RESET_ON_FORK: 0x4000_0000,
} as const;

let loaded: Libc | undefined;

/** libc, loaded at the first call; Linux only. */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

/**
 * sendto(2) on one of libuv's threads, for calls in which the kernel may wait. The caller keeps `data` and `to` as they are until it resolves.
 * @throws Fault when not all was sent
 */
export function sendtoLater(fd: number, data: Uint8Array, to: Uint8Array): Promise<void> {
  const call = libc().sendto as Libc['sendto'] & { async: (...args: unknown[]) => void };
  return new Promise((resolve, reject) => {
    call.async(fd, data, data.byteLength, 0, to, to.byteLength, (error: unknown, sent: number) => {
      if (error === null && sent === data.byteLength) resolve();
      else reject(new Fault('internal', `sendto of ${data.byteLength} bytes: ${error ?? sent}`, error));
    });
  });
}

function load(): Libc {
  const lib = koffi.load('libc.so.6');
  return {
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    bind: lib.func('int bind(int fd, const void *address, uint32_t length)'),
    setsockopt: lib.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)'),
    sendto: lib.func(
      'long sendto(int fd, const void *data, size_t length, int flags, const void *to, uint32_t to_length)',
    ),
    recv: lib.func('long recv(int fd, void *into, size_t length, int flags)'),
    recvmmsg: lib.func('int recvmmsg(int fd, void *messages, uint32_t count, int flags, void *timeout)'),
    ppoll: lib.func('int ppoll(void *fds, unsigned long count, const void *timeout, const void *mask)'),
    eventfd: lib.func('int eventfd(uint32_t initial, int flags)'),
    read: lib.func('long read(int fd, void *into, size_t length)'),
    write: lib.func('long write(int fd, const void *from, size_t length)'),
    open: lib.func('int open(const char *path, int flags)'),
    close: lib.func('int close(int fd)'),
    setns: lib.func('int setns(int fd, int type)'),
    ifNametoindex: lib.func('uint32_t if_nametoindex(const char *name)'),
    schedSetscheduler: lib.func('int sched_setscheduler(int pid, int policy, const void *param)'),
  };
}

const remedies: Readonly<Record<string, readonly [FaultCode, string]>> = {
  EPERM: ['permission', 'run as root or with CAP_NET_RAW and CAP_NET_ADMIN'],
  EACCES: ['permission', 'run as root or with CAP_NET_RAW and CAP_NET_ADMIN'],
  EADDRINUSE: ['conflict', 'stop the other BFD daemon on this machine (ss -ulpn shows it)'],
  EADDRNOTAVAIL: ['not_found', 'the address is not (or not yet) on this machine'],
  ENODEV: ['not_found', 'the device does not exist'],
  EMFILE: ['exhausted', 'raise the limit of open files'],
  EAFNOSUPPORT: ['missing_feature', 'the kernel lacks this address family'],
};

/** The errno name of the call that just failed, as `EADDRINUSE`. */
export function lastErrorName(): string {
  const errno = koffi.errno();
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}

/** A Fault for the call that just failed; `what` says what was tried, to what. */
export function lastFault(what: string): Fault {
  const name = lastErrorName();
  const [code, remedy] = remedies[name] ?? ['internal', undefined];
  return new Fault(code, `${what}: ${name}${remedy === undefined ? '' : `; ${remedy}`}`);
}

/** Sets an int option. @throws Fault */
export function setInt(
  fd: number,
  option: { readonly level: number; readonly name: number },
  value: number,
): void {
  if (libc().setsockopt(fd, option.level, option.name, Int32Array.of(value), 4) < 0) {
    throw lastFault(`setsockopt level ${option.level} option ${option.name} to ${value}`);
  }
}

/** The sockaddr of an address: sockaddr_in (16 bytes) for 4 bytes, sockaddr_in6 (28 bytes) for 16. */
export function socketAddress(address: Uint8Array, port: number, scopeId = 0): Uint8Array {
  const v4 = address.byteLength === 4;
  const bytes = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? C.AF_INET : C.AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(address, v4 ? 4 : 8);
  if (!v4) view.setUint32(24, scopeId, true);
  return bytes;
}

/** The memory address of an array's first byte, for pointers inside structs. */
export function pointerTo(bytes: Uint8Array): bigint {
  return BigInt(koffi.address(bytes));
}
