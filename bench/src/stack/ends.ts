// SPDX-License-Identifier: Apache-2.0
// The memory that bpf/server.bpf.c shares: what arrived at the server, and whether it answers.

export interface Ends {
  readonly arrived: number;
  readonly answers: number;
  /** CLOCK_MONOTONIC in nanoseconds; 0: nothing since it was cleared. */
  readonly firstNs: bigint;
  readonly lastNs: bigint;
  readonly silenceNs: bigint;
  readonly silenceFromNs: bigint;
}

const AT = { arrived: 0, answers: 8, firstNs: 16, lastNs: 24, silenceNs: 32, silenceFrom: 40, answering: 48 };

export function readEnds(element: Uint8Array): Ends {
  const view = new DataView(element.buffer, element.byteOffset);
  const at = (offset: number): bigint => view.getBigUint64(offset, true);
  return {
    arrived: Number(at(AT.arrived)),
    answers: Number(at(AT.answers)),
    firstNs: at(AT.firstNs),
    lastNs: at(AT.lastNs),
    silenceNs: at(AT.silenceNs),
    silenceFromNs: at(AT.silenceFrom),
  };
}

/** Arrivals alone, for who asks often. */
export function readArrived(element: Uint8Array): number {
  return Number(new DataView(element.buffer, element.byteOffset).getBigUint64(AT.arrived, true));
}

/** Counts and times begin anew. */
export function clearEnds(element: Uint8Array, answering: boolean): void {
  const view = new DataView(element.buffer, element.byteOffset);
  for (const offset of Object.values(AT)) view.setBigUint64(offset, 0n, true);
  view.setBigUint64(AT.answering, answering ? 1n : 0n, true);
}
