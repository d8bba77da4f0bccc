// SPDX-License-Identifier: Apache-2.0

/** What the main thread hands a worker thread at its start. */
export interface WorkerSetup {
  /** A network namespace to run in (/run/netns/…); null for that of the process. */
  readonly netns: string | null;
}
