// SPDX-License-Identifier: Apache-2.0
// Process life of a service: settings, logs, readiness, ordered shutdown; and the machine's own tools.
export type { Logger } from 'pino';
export { type CommonConfig, commonSettings, LOG_LEVELS } from './common-settings.js';
export { EXIT, exitCodeOf } from './exit-codes.js';
export { type OpsServer, type OpsServerSpec, serveOps } from './ops-server.js';
export { raisePriority } from './priority.js';
export { Readiness, type ReadinessReport } from './readiness.js';
export { ResourceStack } from './resource-stack.js';
export { runService, type ServiceContext, type ServiceSpec } from './run-service.js';
export {
  durationMs,
  flag,
  type HostPort,
  hostPort,
  integer,
  list,
  path,
  ratio,
  readSettings,
  redisUrl,
  type Setting,
  type Settings,
  type SettingValues,
  text,
} from './settings.js';
export {
  askIpBatch,
  readIp,
  runIpBatch,
  runOnDevices,
  runTool,
  SYSCTL_DIR,
  setSysctl,
  tryTool,
} from './system.js';
