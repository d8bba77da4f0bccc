// SPDX-License-Identifier: Apache-2.0
// What the watcher beside the gateway has noted; times are CLOCK_MONOTONIC in nanoseconds, as text.
import type { HealthState } from '@detour/contracts';

export type WatcherRequest =
  /** What was noted since the last time. */
  | { readonly op: 'take' }
  /** Tells bfd to take a node's session down by an operator's will, or to let it come up. */
  | { readonly op: 'admin'; readonly node: string; readonly adminDown: boolean };

export interface WatcherReply {
  /** The gateway's tables were flipped. */
  readonly flips: { readonly atNs: string }[];
  /** bfd reported a node: `atNs` is when it knew. */
  readonly health: {
    readonly node: string;
    readonly state: HealthState;
    readonly atNs: string;
    readonly detectTimeUs: number;
  }[];
  /** A revision became the head. */
  readonly heads: { readonly revision: number; readonly atNs: string }[];
}
