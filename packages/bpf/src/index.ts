// SPDX-License-Identifier: Apache-2.0
// libbpf and the libc calls around it: load objects, work on maps, attach programs, read events, put frames on devices.

export { type Field, type Layout, mapLayout, parseBtf } from './btf.js';
export { type Conversion, planConversion } from './convert.js';
export {
  ensureBpffs,
  probeBpffs,
  probeFeatures,
  probeKernelVersion,
  probePrivileges,
  requireFeatures,
} from './features.js';
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
export {
  BATCH_ELEMENTS,
  type Batch,
  type BatchOptions,
  deleteBatch,
  readBatches,
  updateBatch,
} from './map-batch.js';
export { type MappedArray, mapArray } from './map-mmap.js';
export { type BpfObject, type OpenOptions, openObject } from './object.js';
export { openPacketSocket, type PacketSocket, type PacketSocketOptions } from './packet-socket.js';
export {
  type Feature,
  probeFibLookupByTable,
  probeHelper,
  probeKernelStruct,
  probeMapType,
  probeProgType,
} from './probe.js';
export { type BpfProgram, openPinnedProgram, type ProgramInfo, pinProgram, programInfo } from './program.js';
export { openRing, type Ring, type RingOptions } from './ring.js';
export type { RodataValue } from './rodata.js';
export {
  progTestRun,
  progTestRunAsync,
  type TestRunOptions,
  type TestRunResult,
  type XdpContext,
} from './test-run.js';
export { attachXdp, ifindex, linkProgramId, openXdpLink, unpin, type XdpLink, type XdpMode } from './xdp.js';
