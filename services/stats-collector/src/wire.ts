// SPDX-License-Identifier: Apache-2.0
/** Puts the stats-collector together, in dependency order; what it opens is closed with the context's resources. */
import { AlarmBook, connectBus, openIntentStore, openState, registerInstance } from '@detour/bus';
import { serve } from '@detour/rpc';
import type { ServiceContext } from '@detour/runtime';
import type { Meter } from '@opentelemetry/api';
import { Collector } from './collector.js';
import { SERVICE, type settings } from './config.js';
import { followRevisions } from './events.js';
import { statsCollectorService } from './grpc.js';
import { openExchange } from './observations.js';
import { observeStats } from './observe.js';
import { ScorePublisher } from './score-publisher.js';

/** Answers where it serves gRPC. */
export async function wireStatsCollector(
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
  const observed = observeStats(
    meter,
    () => collector,
    (node) => publisher.published(node),
  );
  const publisher = resources.use(
    new ScorePublisher({
      ...{ state, mirror, clock, log },
      onWrite: observed.write,
      onForeign: (node, value) => collector.adopt(node, value),
    }),
    'score publisher',
  );
  const exchange = resources.use(
    openExchange({ bus, instance: config.instance, log, onObservation: (seen) => collector.take(seen) }),
  );
  const collector = resources.use(
    new Collector({
      clock,
      log,
      publish: (node, wanted) => publisher.want(node, wanted),
      published: (node) => publisher.published(node),
      raise: (code, node, text) => alarms.raise(code, node, text),
      clear: (code, node) => alarms.clear(code, node),
      share: exchange.share,
      onScrape: observed.scrape,
    }),
  );
  const events = resources.use(
    followRevisions({ mirror, store: openIntentStore(bus), alarms, collector, publisher, clock, log }),
  );
  const { host, port } = config.listen;
  const server = resources.use(
    await serve({
      address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      services: [
        statsCollectorService({
          collector,
          published: (node) => publisher.published(node),
          onReport: observed.report,
        }),
      ],
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
