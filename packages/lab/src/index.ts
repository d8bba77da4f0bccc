// SPDX-License-Identifier: Apache-2.0
/** Network labs declared as data: real namespaces, real service nodes, traffic, captures. */
export { monotonicMs } from './agents/clock.js';
export type {
  Endpoint,
  HttpGet,
  HttpResult,
  TcpConnectionReport,
  TcpOpen,
  TcpReport,
  UdpOutage,
  UdpReport,
  UdpStart,
} from './agents/protocol.js';
export { type Appliance, type ApplianceFlow, type ApplianceReport, startAppliance } from './appliance.js';
export type { BfdPeer } from './bfd-peers.js';
export { type Capture, type CaptureOptions, startCapture } from './capture.js';
export {
  ComposeStack,
  type ContainerState,
  composeAddresses,
  composeRoot,
  stateOf,
} from './compose/compose-stack.js';
export { receivedSpans } from './compose/received-spans.js';
export type { ConntrackFilter, ConntrackRow } from './conntrack.js';
export { readConntrack } from './conntrack.js';
export { type Firewall, type NftCounter, openFirewall, parseCounters } from './firewall.js';
export {
  type BfdDaemon,
  type BfdTiming,
  type FirewallOptions,
  firewallAddresses,
  firewallDevices,
  firewallNamespace,
  firewallPeering,
} from './firewall-spec.js';
export { type Forward, startForward } from './forward.js';
export { type FrrRouter, startFrr } from './frr.js';
export {
  firewallOfEach,
  firewallRefusals,
  type GatewayMachines,
  killGateway,
  processOf,
  reviveGateway,
} from './gateway-machine.js';
export { createLab, type Lab, type LabOptions } from './lab.js';
export { type OtlpReceiver, type OtlpReceiverOptions, startOtlpReceiver } from './otlp.js';
export type { AttributeValue, Span } from './otlp-spans.js';
export { type OvsEnd, type OvsTunnel, startOvsEnd } from './ovs.js';
export type { CapturedPacket } from './pcap.js';
export type { LabProcess, SpawnOptions } from './process.js';
export { type RawSender, startRawSender } from './raw-sender.js';
export { reapDeadLabs } from './reap.js';
export { type RunOptions, type RunResult, run } from './run.js';
export {
  type AttachedNodeStatus,
  type NodeAttach,
  type ServiceNodeOptions,
  startNodeAttach,
  withServiceNode,
} from './service-node.js';
export { routerArms, withServiceRouter } from './service-router.js';
export { clockAhead } from './shifted-clock.js';
export type {
  BridgeSpec,
  LabSpec,
  LinkEnd,
  LinkSpec,
  NamespaceSpec,
  NeighbourSpec,
  ProcessSpec,
  RouteSpec,
  RuleSpec,
  VxlanSpec,
} from './spec.js';
export { type CliOptions, type Stack, startStack } from './stack.js';
export {
  type GatewayPlace,
  type PlannedProcess,
  redisSocket,
  type ServiceName,
  type StackOptions,
} from './stack-plan.js';
export { type StandardIntentOptions, standardIntent } from './standard-intent.js';
export {
  clientAddresses,
  type StandardLabOptions,
  standardAddresses,
  standardLab,
  standardPorts,
  standardTable,
} from './standard-lab.js';
export { renderTraceTree } from './trace-tree.js';
export { startTraffic, type TcpConnections, type TrafficAgent, type UdpStream } from './traffic.js';
export {
  type GatewayRouters,
  startGatewayRouters,
  twoGateways,
  twoGatewaysIntent,
  twoGatewaysLab,
} from './two-gateways.js';
export { type WaitOptions, waitFor } from './wait.js';
