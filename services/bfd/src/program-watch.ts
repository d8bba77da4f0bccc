// SPDX-License-Identifier: Apache-2.0
// Whether devices have an XDP program on them, asked of the kernel again and again: it says nothing by itself when a link is detached. Asked on
// libuv's threads, for the kernel may hold its networking lock for seconds and news of nodes must not wait for that.

import { type Clock, describeError } from '@detour/core';
import { C, lastFault, libc, sendtoLater } from './libc.js';
import { parseXdp, xdpRequest } from './xdp-wire.js';

const EVERY_MS = 100;

export interface ProgramWatchSpec {
  readonly clock: Clock;
  /**
   * Devices that are there and had no program at two looks in a row, when that is not what was told before: for a moment there is none
   * when a program goes on in another mode, and when a device is no longer in use, of which the word may be on its way.
   */
  readonly onBare: (devices: readonly string[]) => void;
  /** A look that failed; the next one follows all the same. */
  readonly onTrouble: (why: string) => void;
}

export class ProgramWatch implements AsyncDisposable {
  readonly #spec: ProgramWatchSpec;
  readonly #fd: number;
  readonly #kernel = new Uint8Array(12);
  readonly #buffer = new Uint8Array(1 << 16);
  #devices: readonly string[] = [];
  #told = '';
  #before = new Set<string>();
  #sequence = 0;
  #looking: Promise<void> = Promise.resolve();
  #cancel: () => void;
  #ended = false;

  /** @throws Fault */
  constructor(spec: ProgramWatchSpec) {
    this.#spec = spec;
    new DataView(this.#kernel.buffer).setUint16(0, C.AF_NETLINK, true);
    this.#fd = libc().socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw lastFault('rtnetlink socket');
    this.#cancel = spec.clock.after(EVERY_MS, () => this.#begin());
  }

  /** These, from the next look on. */
  follow(devices: readonly string[]): void {
    this.#devices = devices;
  }

  #begin(): void {
    this.#looking = this.#look()
      .catch((error: unknown) => this.#spec.onTrouble(describeError(error)))
      .then(() => {
        if (!this.#ended) this.#cancel = this.#spec.clock.after(EVERY_MS, () => this.#begin());
      });
  }

  async #look(): Promise<void> {
    const now = new Set<string>();
    for (const device of this.#devices) if ((await this.#ask(device)) === 'bare') now.add(device);
    const bare = [...now].filter((device) => this.#before.has(device));
    this.#before = now;
    const told = bare.join();
    if (told === this.#told) return;
    this.#told = told;
    this.#spec.onBare(bare);
  }

  /** The kernel answers before the request's sendto(2) returns. @throws Fault */
  async #ask(device: string): Promise<'bare' | 'covered' | 'absent'> {
    const sequence = ++this.#sequence;
    const request = xdpRequest(device, sequence);
    await sendtoLater(this.#fd, request, this.#kernel);
    for (;;) {
      const length = libc().recv(this.#fd, this.#buffer, this.#buffer.byteLength, C.MSG_DONTWAIT);
      if (length < 0) throw lastFault(`what is on device ${device}`);
      const answer = parseXdp(this.#buffer.subarray(0, length));
      if (answer.sequence === sequence) return answer.state;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#cancel();
    await this.#looking;
    libc().close(this.#fd);
  }
}
