// SPDX-License-Identifier: Apache-2.0
// Waits for one of several file descriptors, with a timeout finer than milliseconds.

import { C, lastErrorName, lastFault, libc } from './libc.js';

/** A fixed set of descriptors to read from. */
export class PollSet {
  readonly #count: number;
  readonly #polled: Int32Array; // struct pollfd: int fd; short events, revents
  readonly #timeout = new BigInt64Array(2); // struct timespec

  constructor(fds: readonly number[]) {
    this.#count = fds.length;
    this.#polled = new Int32Array(fds.length * 2);
    fds.forEach((fd, i) => {
      this.#polled[2 * i] = fd;
    });
  }

  /** Blocks the thread until one is readable or `forUs` microseconds have passed. @throws Fault */
  wait(forUs: number): void {
    for (let i = 0; i < this.#count; i++) this.#polled[2 * i + 1] = C.POLLIN;
    const ns = BigInt(Math.round(Math.max(forUs, 0) * 1000));
    this.#timeout[0] = ns / 1_000_000_000n;
    this.#timeout[1] = ns % 1_000_000_000n;
    if (libc().ppoll(this.#polled, this.#count, this.#timeout, null) >= 0) return;
    if (lastErrorName() !== 'EINTR') throw lastFault('waiting for BFD packets');
    for (let i = 0; i < this.#count; i++) this.#polled[2 * i + 1] = 0;
  }

  /** Whether the i-th had something, an error included, when `wait` returned. */
  ready(i: number): boolean {
    return (this.#polled[2 * i + 1] ?? 0) >>> 16 !== 0;
  }
}
