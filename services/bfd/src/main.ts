// SPDX-License-Identifier: Apache-2.0

/*
 * bfd: watches over the nodes of one gateway.
 * In: the intent revision in force (NATS); devices, addresses, neighbours and routes (kernel); BFD packets.
 * Out: health, to tunnel-gw by a gRPC stream on a unix socket, and as a copy in KV health.*; sessions by gRPC; metrics; alarms; to the
 * routing daemon the mark by which it announces this gateway.
 * State: none that outlives the process but the mark; AdminDown set by hand ends with it.
 */

import {
  AlarmBook,
  connectBus,
  followIntent,
  openIntentStore,
  openState,
  registerInstance,
} from '@detour/bus';
import { bfdSocketAddress } from '@detour/contracts';
import { describeError, Fault } from '@detour/core';
import { decodeRevision } from '@detour/intent';
import { serve } from '@detour/rpc';
import { raisePriority, runService } from '@detour/runtime';
import { currentTraceIds, startTelemetry } from '@detour/telemetry';
import { startAnnouncing } from './announcing.js';
import { bfdService } from './bfd-service.js';
import { bfdSettings } from './config.js';
import { deriveSessions } from './derive-sessions.js';
import { BfdEngine } from './engine.js';
import { HealthBoard } from './health-board.js';
import { HealthCopy } from './health-copy.js';
import { LateNews } from './late-news.js';
import { bfdMetrics } from './metrics.js';
import { NodeAlarms } from './node-alarms.js';
import { becomeRealtime } from './realtime.js';
import { RouteWatch } from './route-watch.js';
import { routerSessions } from './router-sessions.js';
import { SessionKeeper } from './session-keeper.js';
import { TcpChecks } from './tcp-checks.js';

await runService({ name: 'bfd', settings: bfdSettings() }, async (ctx) => {
  const { config, log, signal, clock, resources, readiness } = ctx;
  const { gateway } = config;
  if (gateway === '')
    throw new Fault('invalid', 'DETOUR_GATEWAY is not set: give the name of this gateway in the intent');
  readiness.set('intent', false, 'no revision has been read yet');
  const { instance, otlp, traceRatio } = config;
  const telemetry = resources.use(
    startTelemetry({ service: 'bfd', instance, gateway, otlp, traceRatio, log }),
    'telemetry',
  );
  ctx.serveMetrics(() => telemetry.metricsText());
  ctx.mixTraceIds(currentTraceIds);

  const always = routerSessions(config); // garbage is refused before anything is opened
  const board = new HealthBoard();
  const later = new LateNews(board, clock);
  const engine: BfdEngine = await BfdEngine.start(new URL('./worker.js', import.meta.url), {
    onHealth: (rows, complete) => {
      const ofNodes = rows.filter(({ node }) => node !== '');
      if (complete || ofNodes.length > 0) board.take(ofNodes, complete);
    },
    // After the turn in which health is told: the event of a failure comes just before its news
    onEvent: (event) =>
      void setImmediate(() => {
        instruments.transition(event);
        log.info({ session: event.id, probe: event.probe, diag: event.diag }, `${event.from} -> ${event.to}`);
      }),
    onFailure: (error) => ctx.stop('the BFD timing thread failed', error),
  });
  resources.use(engine, 'sessions');
  const checks = resources.use(new TcpChecks(clock, (id, tcp) => engine.tell(id, { tcp })), 'TCP checks');
  const routes = await RouteWatch.start(new URL('./route-worker.js', import.meta.url), {
    onState: (id, route) => engine.tell(id, { route }),
    onFailure: (error) => ctx.stop('the route thread failed', error),
  });
  resources.use(routes, 'routes');
  if (!engine.realtime || !(becomeRealtime('telling') || raisePriority())) {
    log.warn(
      {},
      'no right to raise priorities (CAP_SYS_NICE): packets and news may be late on a busy machine',
    );
  }

  const bus = resources.use(
    connectBus({ servers: config.nats, name: `bfd ${gateway}`, signal, log }),
    'NATS',
  );
  readiness.set('nats', false, `no answer yet from ${config.nats.join(', ')} (DETOUR_NATS)`);
  void bus.whenConnected().then(
    () => readiness.set('nats', true),
    () => {}, // stopped before NATS was reached
  );
  const state = openState(bus);
  const mirror = resources.use(state.watch(), 'mirror');
  resources.use(new HealthCopy({ state, gateway, board: later, clock, log }), 'health copy');
  const alarms = resources.use(new AlarmBook({ bus, state, source: `bfd-${gateway}`, clock, log }), 'alarms');
  resources.use(new NodeAlarms(later, alarms), 'node alarms');
  const { announce: addresses, graceMs } = config;
  const announcing = resources.use(
    await startAnnouncing({ addresses, graceMs, board, alarms, clock, log }),
    'announcing',
  );
  const instruments = bfdMetrics(
    { list: () => engine.list(), isAnnounced: () => announcing.state.announced },
    telemetry.meter,
  );
  const keeper = new SessionKeeper({ engine, checks, routes, always }); // sessions begin, and their events are counted
  resources.use(
    followIntent({
      mirror,
      store: openIntentStore(bus),
      clock,
      log,
      decode: decodeRevision,
      onRevision: ({ revision, head }) => {
        const kept = (error: unknown) =>
          log.error({ revision: head.revision }, `the sessions before stay: ${describeError(error)}`);
        try {
          const sessions = deriveSessions(revision, gateway);
          void keeper.follow(sessions).then((inForce) => {
            if (!inForce) return;
            readiness.set('intent', true);
            log.info({ revision: head.revision, sessions: sessions.length }, 'sessions follow the intent');
          }, kept);
        } catch (error) {
          kept(error);
        }
      },
      onRefused: (head, why) => log.error({ revision: head.revision }, `the sessions before stay: ${why}`),
    }),
    'intent',
  );

  const heardOf = announcing.heardOf;
  const services = [bfdService({ sessions: engine, board, heardOf, clock, log, signal })];
  resources.use(await serve({ address: bfdSocketAddress(config.runDir), services, log }), 'unix socket');
  const { host, port } = config.listen;
  const tcp = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const server = resources.use(await serve({ address: tcp, services, log }), 'gRPC');
  resources.use(
    registerInstance({
      state,
      service: 'bfd',
      id: config.instance,
      address: server.address,
      metrics: ctx.metricsAddress,
      gateway,
      clock,
      log,
    }),
    'instance',
  );
});
