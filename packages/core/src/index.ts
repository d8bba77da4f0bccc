// SPDX-License-Identifier: Apache-2.0
// Pure domain values with their invariants; imports nothing of Detour.
export {
  type AddressBytes,
  compareAddresses,
  formatAddress,
  formatPrefix,
  isMappedV4,
  maskPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from './address.js';
export { type Clock, type ManualClock, manualClock, systemClock } from './clock.js';
export { describeError, FAULT_CODES, Fault, type FaultCode } from './fault.js';
export {
  type FlowKey,
  flowKeyText,
  normaliseTuple,
  PROTO,
  reverseTuple,
  type Tuple,
  tupleOf,
} from './flow.js';
export { type Log, silentLog } from './log.js';
export { changedRows, inOrder, mergeRows, type Numbered, rowOf } from './numbered-rows.js';
export { parseRedisTarget, REDIS_FORMS, type RedisEndpoint, type RedisTarget } from './redis-target.js';
export {
  AFFINITIES,
  type Affinity,
  type HashKey,
  halfSipHash13,
  hashKeyFromHex,
  hashKeyToBigInt,
  selectionHash,
} from './selection-hash.js';
export {
  SNAT_LEAST_PORT,
  SnatPorts,
  type SnatPortsOptions,
  type SnatUse,
  snatCandidates,
} from './snat-ports.js';
