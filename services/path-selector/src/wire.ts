// SPDX-License-Identifier: Apache-2.0
/** Puts the path-selector together, in dependency order; what it opens is closed with the context's resources. */
import { openAffinity } from '@detour/affinity';
import { AlarmBook, connectBus, openIntentStore, openState, registerInstance } from '@detour/bus';
import type { ChainRow } from '@detour/contracts';
import { serve, TablePublisher } from '@detour/rpc';
import type { ServiceContext } from '@detour/runtime';
import { diffChains, digestChains } from '@detour/tables';
import type { Meter } from '@opentelemetry/api';
import { SERVICE, type settings } from './config.js';
import { followState } from './events.js';
import { GatewayHealth } from './gateway-health.js';
import { pathSelectorService } from './grpc.js';
import { LivePaths } from './live-paths.js';
import { observeSelector } from './observe.js';

/** How long Redis may take to be reached at the start before that is an alarm. */
const REDIS_GRACE_MS = 2_000;

/** Answers where it serves gRPC. */
export async function wirePathSelector(
  ctx: ServiceContext<typeof settings>,
  meter: Meter,
): Promise<{ readonly address: string }> {
  const { config, log, signal, resources, readiness, clock } = ctx;
  const name = `${SERVICE}-${config.instance}`;
  readiness.set('state', false, `nothing read yet from ${config.nats.join(', ')} (DETOUR_NATS)`);
  const bus = resources.use(connectBus({ servers: config.nats, name, signal, log }), 'NATS');
  const state = openState(bus);
  const mirror = resources.use(state.watch(), 'state mirror');
  const alarms = resources.use(new AlarmBook({ bus, state, source: name, clock, log }), 'alarms');
  const affinity = resources.use(
    openAffinity({ url: config.redis, log, budgetMs: config.redisBudgetMs }),
    'Redis',
  );
  const redisGone = (why: string) =>
    alarms.raise('redis_unreachable', '', `${why}: new flows are chosen, not recorded`);
  resources.defer(
    affinity.onConnectionChange((connected, why) => {
      if (connected) alarms.clear('redis_unreachable', '');
      else redisGone(why);
    }),
  );
  resources.defer(
    affinity.onRefusalChange((why) => {
      if (why === null) alarms.clear('redis_refuses', '');
      else
        alarms.raise('redis_refuses', '', `Redis takes no pin: ${why}: new flows are chosen, not recorded`);
    }),
  );
  // A server that was never reached raises no change of connection.
  resources.defer(
    clock.after(REDIS_GRACE_MS, () =>
      affinity.connected ? undefined : redisGone('Redis was not reached yet'),
    ),
  );
  const health = new GatewayHealth();
  const paths = new LivePaths((gateway, node) => health.stateOf(gateway, node));
  const observed = observeSelector(meter, paths, affinity);
  const publisher = new TablePublisher<ChainRow>({
    name: 'paths',
    diff: diffChains,
    digest: digestChains,
    log,
    onAck: (gateway) => {
      observed.tableAnswer('ack', gateway);
      alarms.clear('table_refused', gateway);
    },
    onNack: (gateway, version, row, why) => {
      observed.tableAnswer('nack', gateway);
      alarms.raise(
        'table_refused',
        gateway,
        `${gateway} refuses the paths of revision ${version.revision}: ${row}: ${why}`,
      );
    },
  });
  const events = resources.use(
    followState({
      ...{ mirror, store: openIntentStore(bus), alarms, health, paths, publisher, clock, log },
      coalesceMs: config.coalesceMs,
      onTable: observed.table,
    }),
  );
  const { host, port } = config.listen;
  const server = resources.use(
    await serve({
      address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      services: [pathSelectorService({ paths, pins: affinity, publisher, log, observe: observed })],
      log,
    }),
    'gRPC server',
  );
  void events.settled.then(
    () => {
      if (signal.aborted) return;
      readiness.set('state', true);
      resources.use(
        registerInstance({
          ...{
            state,
            service: SERVICE,
            id: config.instance,
            address: server.address,
            metrics: ctx.metricsAddress,
          },
          ...{ gateway: '', clock, log },
        }),
        'registration',
      );
    },
    () => {}, // stopped before NATS was reached
  );
  return { address: server.address };
}
