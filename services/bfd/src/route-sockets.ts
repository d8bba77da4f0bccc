// SPDX-License-Identifier: Apache-2.0
// The two rtnetlink sockets of the route thread: one hears what changes, the other asks what is.

import { Fault } from '@detour/core';
import { C, lastErrorName, lastFault, libc, setInt } from './libc.js';
import {
  parseRouteAnswers,
  parseRouteEvents,
  type RouteEvent,
  type RouteQuestion,
  routeGroups,
  routeQuestion,
} from './route-wire.js';

const DEFAULT_BUFFER_BYTES = 8 << 20;
/** A table that changes during each of so many readings is read again a little later. */
const readings = 8;
const answerWithinS = 5;
const ENOENT = 2; // there is no such table: nothing has ever been put into it

/** Hears of changes; never waits. */
export class RouteEventSocket {
  readonly fd: number;
  readonly #buffer = new Uint8Array(1 << 16);

  /** `bufferBytes`: what the kernel keeps for us before it drops events; by default enough for any burst but a full table. @throws Fault */
  constructor(bufferBytes = DEFAULT_BUFFER_BYTES) {
    this.fd = openSocket(C.SOCK_NONBLOCK, routeGroups);
    libc().setsockopt(this.fd, C.SOL_SOCKET, C.SO_RCVBUFFORCE, Int32Array.of(bufferBytes), 4);
  }

  /** All that was said since the last call. When the kernel had to drop some of it, anything may have changed. @throws Fault */
  read(take: (event: RouteEvent) => void): void {
    for (;;) {
      const length = libc().recv(this.fd, this.#buffer, this.#buffer.byteLength, C.MSG_DONTWAIT);
      if (length < 0) {
        const name = lastErrorName();
        if (name === 'EAGAIN') return;
        if (name === 'EINTR') continue;
        if (name !== 'ENOBUFS') throw lastFault('reading route events');
        take({ kind: 'anything' });
        continue;
      }
      for (const event of parseRouteEvents(this.#buffer.subarray(0, length))) take(event);
    }
  }

  close(): void {
    libc().close(this.fd);
  }
}

/** Asks which routes there are; waits for the answer. */
export class RouteQuestionSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(1 << 16);
  readonly #kernel = netlinkAddress(0);
  #sequence = 0;

  /** @throws Fault when the kernel cannot filter (older than Linux 4.20) */
  constructor() {
    this.#fd = openSocket(0, 0);
    setInt(this.#fd, { level: C.SOL_NETLINK, name: C.NETLINK_GET_STRICT_CHK }, 1);
    const timeout = BigInt64Array.of(BigInt(answerWithinS), 0n); // struct timeval
    if (libc().setsockopt(this.#fd, C.SOL_SOCKET, C.SO_RCVTIMEO, timeout, 16) < 0)
      throw lastFault('rtnetlink timeout');
  }

  /** Prefixes to which a table has a usable route by a device; null when the table did not hold still. @throws Fault */
  prefixesBy(table: number, ifindex: number, family: 4 | 6): Set<string> | null {
    for (let i = 0; i < readings; i++) {
      const found = this.#ask({ family, table, ifindex, sequence: ++this.#sequence });
      if (found !== null) return found;
    }
    return null;
  }

  #ask(question: RouteQuestion): Set<string> | null {
    const request = routeQuestion(question);
    if (libc().sendto(this.#fd, request, request.byteLength, 0, this.#kernel, 12) < 0)
      throw lastFault('asking for routes');
    const found = new Set<string>();
    let broken = false;
    for (;;) {
      const length = libc().recv(this.#fd, this.#buffer, this.#buffer.byteLength, 0);
      if (length < 0) {
        if (lastErrorName() === 'EINTR') continue;
        throw lastFault(`routes of table ${question.table}`);
      }
      for (const answer of parseRouteAnswers(this.#buffer.subarray(0, length), question)) {
        if (answer.kind === 'route') {
          if (answer.usable) found.add(answer.prefix);
          continue;
        }
        broken ||= answer.kind === 'interrupted';
        if (answer.kind === 'interrupted') continue;
        if (answer.errno !== 0 && answer.errno !== ENOENT)
          throw new Fault(
            'internal',
            `the kernel does not show routes of table ${question.table}: errno ${answer.errno}`,
          );
        return broken ? null : found;
      }
    }
  }

  close(): void {
    libc().close(this.#fd);
  }
}

function netlinkAddress(groups: number): Uint8Array {
  const address = new Uint8Array(12); // struct sockaddr_nl
  const view = new DataView(address.buffer);
  view.setUint16(0, C.AF_NETLINK, true);
  view.setUint32(8, groups, true);
  return address;
}

function openSocket(flags: number, groups: number): number {
  const fd = libc().socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw lastFault('rtnetlink socket');
  if (libc().bind(fd, netlinkAddress(groups), 12) < 0) throw lastFault('rtnetlink groups');
  return fd;
}
