// SPDX-License-Identifier: Apache-2.0
// What two processes must agree on: generated messages and ABI, and the names of keys, subjects and devices.
import * as abi from './gen/abi.js';

export { ALARM_CODES, type AlarmCode } from './alarm-codes.js';
export {
  branchDeviceName,
  branchInnerDeviceName,
  branchMacAddress,
  GUARD_TABLE,
  INJECT_DEVICES,
  isRuleDevice,
  ruleDeviceName,
  vtiDeviceName,
  vtiInnerDeviceName,
  vtiMacAddress,
} from './device-names.js';
export { frontRows } from './front-rows.js';
export {
  BfdClient,
  type BfdServer,
  BfdService,
  BfdSession,
  HealthReport,
  ListSessionsRequest,
  ListSessionsResponse,
  NodeHealth,
  SetAdminDownRequest,
  SetAdminDownResponse,
  WatchHealthRequest,
} from './gen/proto/detour/v1/bfd.js';
export {
  ClassifierClient,
  type ClassifierServer,
  ClassifierService,
  ClassifyAnswer,
  ClassifyAnswers,
  ClassifyBatch,
  ClassifyQuestion,
  PortRange,
  PrefixRow,
  RuleAction,
  RuleRow,
  RuleUpdate,
} from './gen/proto/detour/v1/classifier.js';
export {
  HealthState,
  TableAck,
  TableVersion,
  Tuple as TupleMessage,
  WatchRequest,
} from './gen/proto/detour/v1/common.js';
export {
  AlarmRow,
  CountersResponse,
  DropExampleRow,
  FlowRow,
  GatewayClient,
  type GatewayServer,
  GatewayService,
  GatewayStatus,
  GetCountersRequest,
  GetFlowsRequest,
  GetStatusRequest,
  GetTablesRequest,
  NodeStatus,
  PolicyRow,
  PortCounterRow,
  PortStatus,
  RuleCounterRow,
  RuleTableRow,
  SelectionRow,
  SelectionShare,
  TablesResponse,
  TraceRequest,
  TraceResponse,
  TraceStep,
} from './gen/proto/detour/v1/gateway.js';
export {
  AffinityKind,
  ChainRow,
  OnFailure,
  OnNodeDown,
  OnRuleChange,
  PathRow,
  PathSelectorClient,
  type PathSelectorServer,
  PathSelectorService,
  PathSource,
  PathUpdate,
  SelectAnswer,
  SelectAnswers,
  SelectBatch,
  SelectPolicy,
  SelectQuestion,
} from './gen/proto/detour/v1/path_selector.js';
export {
  GetScoresRequest,
  GetScoresResponse,
  NodeScore,
  ReportAttributesRequest,
  ReportAttributesResponse,
  StatsCollectorClient,
  type StatsCollectorServer,
  StatsCollectorService,
} from './gen/proto/detour/v1/stats.js';
export {
  decodeFlowRecord,
  encodeFlowRecord,
  FLOW_RECORD_PATTERN,
  type FlowRecord,
  flowRecordKey,
} from './redis-keys.js';
export { bfdSocketAddress } from './socket-paths.js';
export {
  type AlarmValue,
  alarmSubject,
  type DrainValue,
  type GatewayValue,
  HEARTBEAT_MS,
  type HealthValue,
  INSTANCE_EXPIRY_MS,
  INTENT_STORE,
  type InstanceValue,
  type IntentHead,
  OBSERVATION_SUBJECTS,
  observationSubject,
  parseStateKey,
  type ScoreValue,
  SERVICE_NAMES,
  type ServiceName,
  STATE_BUCKET,
  type StateKey,
  stateKey,
} from './state-keys.js';
/** Layouts and constants of the datapath's maps and events: `abi.flow.decode(bytes)`, `abi.DropReason`, `abi.FlowKey`. */
export { abi };
