// SPDX-License-Identifier: Apache-2.0
// The mark by which the machine's routing daemon knows that this gateway may be announced: a route to each announced address in the kernel's main
// table. It says `unreachable`, so that nothing is ever sent by it; it outlives this process, and ends with the machine.

import { MARKER_ROUTE_PROTOCOL } from '@detour/contracts';
import { type Clock, describeError } from '@detour/core';
import { readIp, runIpBatch } from '@detour/runtime';

const RETRY_MS = 1_000;
const PROTOCOL = String(MARKER_ROUTE_PROTOCOL);

export interface MarkerRouteSpec {
  readonly addresses: readonly string[];
  readonly clock: Clock;
  /** A change that the kernel refused, to be tried again; null: done. */
  readonly onTrouble: (why: string | null) => void;
}

/** Whether the mark of any of these addresses is there. @throws Fault */
export async function isMarked(addresses: readonly string[]): Promise<boolean> {
  const present = await presentMarks();
  return addresses.some((address) => present.has(address));
}

/** Brings the kernel in line with what is wanted, one change at a time; the latest wish counts. */
export class MarkerRoute implements AsyncDisposable {
  readonly #spec: MarkerRouteSpec;
  #wanted: boolean | null = null;
  #done: boolean | null = null;
  #working: Promise<void> = Promise.resolve();
  #cancel = () => {};
  #ended = false;

  constructor(spec: MarkerRouteSpec) {
    this.#spec = spec;
  }

  want(marked: boolean): void {
    this.#wanted = marked;
    this.#working = this.#working.then(() => this.#follow());
  }

  async #follow(): Promise<void> {
    const wanted = this.#wanted;
    if (this.#ended || wanted === null || wanted === this.#done) return;
    this.#cancel();
    try {
      await setMarks(this.#spec.addresses, wanted);
      this.#done = wanted;
      this.#spec.onTrouble(null);
    } catch (error) {
      this.#done = null; // some of them may have been set
      this.#spec.onTrouble(describeError(error));
      this.#cancel = this.#spec.clock.after(RETRY_MS, () => this.want(this.#wanted ?? wanted));
    }
  }

  /** The mark stays: who takes over knows by it what was announced. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#cancel();
    await this.#working;
  }
}

/** Addresses of marks, in canonical text. */
async function presentMarks(): Promise<Set<string>> {
  const families = await Promise.all(
    ['-4', '-6'].map((family) =>
      readIp<{ readonly dst?: string }>(family, 'route', 'show', 'proto', PROTOCOL),
    ),
  );
  return new Set(families.flat().flatMap(({ dst }) => (dst === undefined ? [] : [dst])));
}

async function setMarks(addresses: readonly string[], marked: boolean): Promise<void> {
  const present = await presentMarks();
  const lines = addresses.flatMap((address) => {
    if (present.has(address) === marked) return [];
    const bits = address.includes(':') ? 128 : 32;
    return [`route ${marked ? 'add' : 'del'} unreachable ${address}/${bits} proto ${PROTOCOL}`];
  });
  if (lines.length > 0) await runIpBatch(lines);
}
