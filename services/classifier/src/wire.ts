// SPDX-License-Identifier: Apache-2.0
/** Puts the classifier together, in dependency order; what it opens is closed with the context's resources. */
import { AlarmBook, connectBus, openIntentStore, openState, registerInstance } from '@detour/bus';
import type { RuleRow } from '@detour/contracts';
import { serve, TablePublisher } from '@detour/rpc';
import type { ServiceContext } from '@detour/runtime';
import { diffRules, ruleDigests } from '@detour/tables';
import type { Meter } from '@opentelemetry/api';
import { SERVICE, type settings } from './config.js';
import { followRevisions } from './events.js';
import { classifierService } from './grpc.js';
import { LiveTables } from './live-tables.js';
import { observeClassifier } from './observe.js';

/** Answers where it serves gRPC. */
export async function wireClassifier(
  ctx: ServiceContext<typeof settings>,
  meter: Meter,
): Promise<{ readonly address: string }> {
  const { config, log, signal, resources, readiness, clock } = ctx;
  readiness.set('state', false, `nothing read yet from ${config.nats.join(', ')} (DETOUR_NATS)`);
  const bus = resources.use(
    connectBus({ servers: config.nats, name: `${SERVICE}-${config.instance}`, signal, log }),
    'NATS',
  );
  const state = openState(bus);
  const mirror = resources.use(state.watch(), 'state mirror');
  const alarms = resources.use(
    new AlarmBook({ bus, state, source: `${SERVICE}-${config.instance}`, clock, log }),
    'alarms',
  );
  const tables = new LiveTables();
  const observed = observeClassifier(meter, tables);
  const publisher = new TablePublisher<RuleRow>({
    name: 'rules',
    diff: diffRules,
    digest: ruleDigests(),
    log,
    onAck: (gateway) => {
      observed.table('ack', gateway);
      alarms.clear('table_refused', gateway);
    },
    onNack: (gateway, version, row, why) => {
      observed.table('nack', gateway);
      alarms.raise(
        'table_refused',
        gateway,
        `${gateway} refuses the rules of revision ${version.revision}: ${row}: ${why}`,
      );
    },
  });
  const events = resources.use(
    followRevisions({
      mirror,
      store: openIntentStore(bus),
      alarms,
      tables,
      publisher,
      clock,
      log,
      onRevision: observed.revision,
    }),
  );
  const { host, port } = config.listen;
  const server = resources.use(
    await serve({
      address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      services: [classifierService({ tables, publisher, log, observe: observed.question })],
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
