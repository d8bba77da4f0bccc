// SPDX-License-Identifier: Apache-2.0
// libbpf and the libc calls around it: load objects, work on maps, attach programs, read events, put frames on devices.
export {
  BpfMap,
  closeFd,
  type MapInfo,
  MapType,
  openPinnedMap,
  perCpuValues,
  possibleCpus,
  UpdateFlag,
  type UpdateResult,
} from './map.js';
export { type BpfObject, type OpenOptions, openObject } from './object.js';
export { type BpfProgram, openPinnedProgram, type ProgramInfo, pinProgram, programInfo } from './program.js';
export type { RodataValue } from './rodata.js';
export {
  progTestRun,
  progTestRunAsync,
  type TestRunOptions,
  type TestRunResult,
  type XdpContext,
} from './test-run.js';
