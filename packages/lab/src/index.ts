// SPDX-License-Identifier: Apache-2.0
/** Network labs declared as data: real namespaces, real service nodes, traffic, captures. */
export { createLab, type Lab, type LabOptions } from './lab.js';
export { LabError } from './lab-error.js';
export type { LabProcess, SpawnOptions } from './process.js';
export { reapDeadLabs } from './reap.js';
export type { RunOptions, RunResult } from './run.js';
export type {
  BridgeSpec,
  LabSpec,
  LinkEnd,
  LinkSpec,
  NamespaceSpec,
  NeighbourSpec,
  ProcessSpec,
  RouteSpec,
  VxlanSpec,
} from './spec.js';
