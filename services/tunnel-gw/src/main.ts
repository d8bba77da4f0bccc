// SPDX-License-Identifier: Apache-2.0

/*
 * tunnel-gw: the only writer of a gateway's datapath.
 * In: the intent in force (NATS), rules (classifier) and paths (path-selector) as table streams, health (bfd, unix socket), neighbours, routes and
 * links (kernel), punted packets (ring buffer).
 * Out: maps, programs and devices; questions about single flows; KV gateway.<name>; the gRPC service Gateway; alarms; metrics; traces.
 * State: the pinned maps, which outlive it, and the tables last in force, kept in the run directory; a successor takes both over.
 */

import { openAffinity } from '@detour/affinity';
import {
  AlarmBook,
  connectBus,
  followIntent,
  openIntentStore,
  openState,
  registerInstance,
  watchInstances,
} from '@detour/bus';
import { bfdSocketAddress, stateKey } from '@detour/contracts';
import { describeError, Fault } from '@detour/core';
import { decodeRevision } from '@detour/intent';
import { serve } from '@detour/rpc';
import { raisePriority, runService } from '@detour/runtime';
import { digestChains, ruleDigests } from '@detour/tables';
import { currentTraceIds, startTelemetry } from '@detour/telemetry';
import { tunnelGwSettings } from './config.js';
import { askControllers } from './controllers.js';
import { gatewayModel } from './desired.js';
import { Gateway } from './gateway.js';
import { gatewayService } from './gateway-service.js';
import { followHealth } from './health-link.js';
import { KeptTables } from './kept-tables.js';
import { startMeasuring } from './measuring.js';
import { gatewayMetrics } from './metrics.js';
import type { GatewayModel } from './model.js';
import { claimDatapath } from './only-writer.js';
import { PinKeeper } from './pin-keeper.js';
import { requireMachine } from './probe.js';
import { openClassify, openSelect } from './questions.js';
import { restoreKept } from './restore-kept.js';
import { gatewayDrain } from './start-drain.js';
import { StatusBoard } from './status-board.js';
import { SteeringLink } from './steering-link.js';
import { openPaths, openRules } from './table-streams.js';
import { traceView } from './trace-view.js';

/** Controllers that are there answer sooner than this. */
const KEPT_AFTER_MS = 2_000;

await runService({ name: 'tunnel-gw', settings: tunnelGwSettings() }, async (ctx) => {
  const { config, log, signal, clock, resources, readiness } = ctx;
  const name = config.gateway;
  const { unmarked, sysctlDir, maxFlows, maxEmbryos, ruleLines, runDir, measureEveryMs: everyMs } = config;
  const { flowLogPath, flowLogRate, flowsAlarm } = config;
  const { decideWithinMs, resolveWithinMs, sweepEveryMs, puntRate, puntBurst, beginRate, beginBurst } =
    config;
  if (name === '')
    throw new Fault('invalid', 'DETOUR_GATEWAY is not set: give the name of this gateway in the intent');
  readiness.set('intent', false, 'no revision is live yet');
  const pinDir = config.pinDir === '' ? `/sys/fs/bpf/detour/${name}` : config.pinDir;
  const machine = requireMachine('/sys/fs/bpf', { mount: config.mountBpffs, lookup: config.vrfLookup });
  if (machine.lookupByRules !== null)
    log.info({}, `VRFs are looked up by ip rules, which is slower: ${machine.lookupByRules}`);
  if (config.unmarked)
    log.error(
      {},
      'DETOUR_TEST_UNMARKED is set, which is for tests alone: what nodes return is dropped as service_loop, and no steered packet arrives',
    );
  resources.use(await claimDatapath(pinDir), 'claim on the datapath');
  if (!raisePriority())
    log.warn({}, 'no right to a higher priority (CAP_SYS_NICE): decisions may be late on a busy machine');

  const telemetry = resources.use(
    startTelemetry({
      service: 'tunnel-gw',
      instance: config.instance,
      gateway: name,
      otlp: config.otlp,
      traceRatio: config.traceRatio,
      log,
    }),
    'telemetry',
  );
  ctx.mixTraceIds(currentTraceIds);
  ctx.serveMetrics(() => telemetry.metricsText());

  const bus = resources.use(
    connectBus({ servers: config.nats, name: `tunnel-gw ${name}`, signal, log }),
    'NATS',
  );
  readiness.set('nats', false, `no answer yet from ${config.nats.join(', ')} (DETOUR_NATS)`);
  void bus.whenConnected().then(
    () => readiness.set('nats', true),
    () => {}, // stopped before NATS was reached
  );
  const state = openState(bus);
  const mirror = resources.use(state.watch(), 'mirror');
  const alarms = resources.use(
    new AlarmBook({ bus, state, source: `tunnel-gw-${name}`, clock, log }),
    'alarms',
  );
  const classifiers = resources.use(watchInstances({ mirror, service: 'classifier', clock }), 'classifiers');
  const selectors = resources.use(
    watchInstances({ mirror, service: 'path-selector', clock }),
    'path-selectors',
  );
  const toClassifier = { key: name, log, instances: () => classifiers.addresses() };
  const toSelector = { key: name, log, instances: () => selectors.addresses() };

  const classify = resources.use(
    openClassify(toClassifier, config.decideWithinMs),
    'questions to the classifier',
  );
  const select = resources.use(
    openSelect(toSelector, config.decideWithinMs),
    'questions to the path-selector',
  );

  const affinity = resources.use(openAffinity({ url: config.redis, log }), 'Redis');
  const keeper = resources.use(
    new PinKeeper({
      affinity,
      alarms,
      clock,
      log,
    }),
    'affinity',
  );
  const kept = resources.use(new KeptTables({ dir: runDir, gateway: name, log }), 'kept tables');
  let keptModel: GatewayModel | null = null;
  const gateway: Gateway = resources.use(
    await Gateway.start({
      objectPath: config.object,
      pinDir,
      lookupByRules: machine.lookupByRules !== null,
      guardDevices: config.guard,
      name,
      slotWorker: new URL('./slot-worker.js', import.meta.url),
      ...{ unmarked, sysctlDir, maxFlows, maxEmbryos, ruleLines, flowLogPath, flowLogRate, flowsAlarm },
      ...{ decideWithinMs, resolveWithinMs, sweepEveryMs, puntRate, puntBurst, beginRate, beginBurst },
      askShare: config.otlp === '' ? 0 : config.traceRatio,
      clock,
      log,
      signal,
      ask: (question) =>
        askControllers(
          {
            gateway: name,
            classify,
            select,
            tracer: telemetry.tracer,
            own: gateway.decisions,
          },
          question,
        ),
      onPublished: (set) => {
        readiness.set('intent', true);
        readiness.set('nats', true); // it steers, be it by tables that a predecessor kept
        board.published(set);
        steering.published();
        kept.published(set);
        if (set.model !== keptModel) alarms.clear('tables_kept', '');
      },
      onRefused: (revision, why) => board.refused(revision, why),
      onTrouble: (code, text) => (text === null ? alarms.clear(code, '') : alarms.raise(code, '', text)),
      onRepin: ({ key }) => keeper.changed(key, gateway),
      onRefresh: (pins) => keeper.refresh(pins, gateway),
      lookOrCreate: (offers) => keeper.lookOrCreate(offers),
      lookUp: (keys) => keeper.lookUp(keys),
      redisConnected: () => keeper.connected,
      claims: affinity.claims,
      onUnrecorded: (pins) => keeper.record(pins, gateway),
      onEnded: (keys) => keeper.end(keys),
      onSwept: ({ unrecorded }) => keeper.swept(unrecorded),
    }),
    'gateway',
  );

  const digestRules = ruleDigests();
  const rules = resources.use(openRules(toClassifier, gateway, digestRules), 'rules');
  const paths = resources.use(openPaths(toSelector, gateway), 'paths');
  const board = new StatusBoard({
    name,
    gateway,
    state,
    mirror,
    alarms,
    clock,
    log,
    connections: () => ({
      nats: bus.connected,
      redis: keeper.connected,
      classifier: classify.connected || rules.connected,
      'path-selector': select.connected || paths.connected,
      bfd: gateway.health.isConnected,
    }),
    digests: () => ({ rules: digestRules(rules.rows), paths: digestChains(paths.rows) }),
    figures: () => keeper.figures(),
    announced: () => steering.announced,
    drain: () => drain.status(),
  });
  resources.use(board, 'status');
  const measuring = resources.use(
    startMeasuring({ name, gateway, mirror, everyMs, clock, log }),
    'measuring',
  );
  gatewayMetrics(gateway, { keeper, measuring }, telemetry.meter);

  resources.use(
    followIntent({
      mirror,
      store: openIntentStore(bus),
      clock,
      log,
      decode: decodeRevision,
      onRevision: ({ revision, epoch }) => {
        try {
          kept.follow(revision, epoch);
          gateway.book.offerModel(gatewayModel(revision, name), epoch);
          const why = gateway.tablesChanged();
          if (why !== null) board.refused(revision.revision, why);
        } catch (error) {
          board.refused(revision.revision, describeError(error));
        }
      },
      onRefused: (head, why) => board.refused(head.revision, why),
    }),
    'intent',
  );
  const address = bfdSocketAddress(runDir);
  const drain = resources.use(gatewayDrain({ name, gateway, keeper, mirror, runDir, clock, log }), 'drain');
  const steering = resources.use(
    new SteeringLink({ address, model: () => gateway.model, withhold: () => drain.withhold, clock, log }),
    'word to bfd',
  );
  drain.start(() => steering.tell());
  void followHealth({
    ...{ address, gateway: name, measureEveryMs: everyMs, signal, log },
    onMeasured: (rows) => measuring.takeProbes(rows),
    onReport: (report) => {
      alarms.clear('bfd_gone', '');
      if (gateway.health.take(report.snapshot, report.nodes).length > 0) gateway.core.healthChanged();
    },
    onLost: (why) => {
      gateway.health.lost(why);
      alarms.raise('bfd_gone', '', `${why}; health is stale, the last known state stays in force`);
    },
  });

  const forgetKept = clock.after(KEPT_AFTER_MS, () => {
    restoreKept({ kept, gateway, name, alarms, log }).then(
      (model) => {
        keptModel = model;
      },
      (error: unknown) => log.warn({}, `the kept tables are not used: ${describeError(error)}`),
    );
  });
  resources.defer(forgetKept, 'the wait for controllers');

  const { host, port } = config.listen;
  const server = resources.use(
    await serve({
      address: `${host.includes(':') ? `[${host}]` : host}:${port}`,
      log,
      services: [
        gatewayService({
          core: gateway.core,
          health: gateway.health,
          counters: gateway.counterMaps,
          flows: (set) => gateway.rowSources(set),
          traceView: (set) => traceView(gateway, set),
          status: () => board.status(),
          flowTable: gateway.flows,
          onProgrammed: (key) => keeper.changed(key, gateway),
        }),
      ],
    }),
    'gRPC',
  );
  resources.use(
    registerInstance({
      state,
      service: 'tunnel-gw',
      id: config.instance,
      address: server.address,
      metrics: ctx.metricsAddress,
      gateway: name,
      clock,
      log,
    }),
    'instance',
  );
  log.debug({ gateway: stateKey.gateway(name) }, 'serving');
});
