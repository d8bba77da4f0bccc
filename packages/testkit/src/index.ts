// SPDX-License-Identifier: Apache-2.0
// Real NATS and Redis servers for tests, waiting with a deadline, and random rule tables with packets that meet them.
export { type BreakableServer, startBreakableNats, startBreakableRedis } from './breakable.js';
export { freePort, freePorts } from './free-port.js';
export { type HostedService, type HostSpec, hostService } from './host-service.js';
export { type NatsServer, startNats } from './nats.js';
export { makeOtherAbi, type OtherAbi } from './other-abi.js';
export { askRedis, type RedisOptions, type RedisServer, startRedis } from './redis.js';
export { type RedisCluster, startRedisCluster } from './redis-cluster.js';
export { type RedisSentinel, startRedisSentinel } from './redis-sentinel.js';
export { type Relay, startRelay } from './relay.js';
export { applyRevision, type RevisionSpec, revisionOf } from './revisions.js';
export { makeRuleWorld, type RuleOrder, type RuleWorld, randomNumbers } from './rule-worlds.js';
export { type ServerProcess, type ServerSpec, startServer } from './server-process.js';
export { faultCodeOf, startTestBus, type TestBus } from './test-bus.js';
export { type UntilOptions, until } from './until.js';
