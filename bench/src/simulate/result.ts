// SPDX-License-Identifier: Apache-2.0
// What a run leaves: everything that the plots and the tables are made of.
import type { Growth } from './growth.js';
import type { Failure, Sample } from './samples.js';
import type { Mishap } from './sizes.js';

export interface Result {
  readonly seed: number;
  readonly size: {
    readonly name: string;
    readonly nodes: number;
    readonly paths: number;
    readonly chains: number;
    readonly flows: number;
    readonly endMs: number;
    readonly stepMs: number;
    readonly mishaps: readonly Mishap[];
  };
  /** What times were measured on. */
  readonly machine: string;
  /** CPU time of the first tables, of all chains. */
  readonly firstBuildMs: number;
  readonly samples: readonly Sample[];
  readonly failures: readonly Failure[];
  readonly growth: readonly Growth[];
  /** The whole run. */
  readonly cpuS: number;
  readonly peakMb: number;
}
