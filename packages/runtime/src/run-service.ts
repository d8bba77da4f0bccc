// SPDX-License-Identifier: Apache-2.0
// The life of a service process: settings, log, operators' HTTP, the service's own wiring, a signal, ordered shutdown.
import { type Clock, describeError, Fault, systemClock } from '@detour/core';
import { type Logger, pino } from 'pino';
import { type CommonConfig, commonSettings } from './common-settings.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { serveOps } from './ops-server.js';
import { startProcessLife } from './process-life.js';
import { Readiness } from './readiness.js';
import { ResourceStack } from './resource-stack.js';
import { readSettings, type Settings, type SettingValues } from './settings.js';

export interface ServiceContext<S extends Settings> {
  readonly name: string;
  readonly config: CommonConfig & SettingValues<S>;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly resources: ResourceStack;
  readonly readiness: Readiness;
  readonly clock: Clock;
  /** host:port of /ready, /healthz and /metrics. */
  readonly metricsAddress: string;
  /** Hands in what renders /metrics (Prometheus text). */
  serveMetrics(render: () => Promise<string>): void;
  /** Hands in what gives each log line its trace ids. */
  mixTraceIds(ids: () => object): void;
  /** Ends the service as a signal would; with an error, the exit code says so. */
  stop(why: string, error?: unknown): void;
}

export interface ServiceSpec<S extends Settings> {
  readonly name: string;
  readonly settings: S;
}

/**
 * Runs `wire`, then lives until SIGINT, SIGTERM, `stop` or an uncaught error; closes `ctx.resources` in reverse order. Never throws and
 * never calls process.exit: the exit code is set and the loop runs dry.
 */
export async function runService<S extends Settings>(
  spec: ServiceSpec<S>,
  wire: (ctx: ServiceContext<S>) => Promise<void>,
): Promise<void> {
  let config: CommonConfig & SettingValues<S>;
  try {
    config = readSettings({ ...commonSettings(), ...spec.settings }, process.env) as typeof config;
  } catch (error) {
    process.stderr.write(
      `${spec.name}: configuration refused\n${error instanceof Fault ? error.detail : describeError(error)}\n`,
    );
    process.exitCode = exitCodeOf(error);
    return;
  }
  let traceIds: () => object = () => ({});
  let renderMetrics: () => Promise<string> = async () => '';
  const log = pino(
    {
      level: config.logLevel,
      base: {
        service: spec.name,
        instance: config.instance,
        ...(config.gateway ? { gateway: config.gateway } : {}),
      },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      mixin: () => traceIds(),
    },
    pino.destination({ dest: 1, sync: true }), // what was said last is what counts when a process is killed
  );

  const resources = new ResourceStack();
  const readiness = new Readiness();
  const { stopWithinMs } = config;
  using life = startProcessLife({ name: spec.name, log, stopWithinMs, closing: () => resources.closing });
  readiness.set('start', false, 'starting');
  try {
    const ops = await serveOps({
      listen: config.metrics,
      ready: () => ({ ...readiness.report(), service: spec.name, instance: config.instance }),
      metrics: () => renderMetrics(),
    });
    resources.use(ops, 'metrics server');
    await wire({
      ...{ name: spec.name, config, log, resources, readiness, clock: systemClock() },
      ...{ signal: life.signal, stop: life.stop, metricsAddress: ops.address },
      serveMetrics: (render) => {
        renderMetrics = render;
      },
      mixTraceIds: (ids) => {
        traceIds = ids;
      },
    });
    readiness.set('start', true);
    log.info({ metrics: ops.address }, `${spec.name} runs`);
    await life.stopped;
  } catch (error) {
    // What a pending call says while we stop is not a failure.
    if (!life.signal.aborted) life.stop('cannot start', error);
  }
  readiness.set('start', false, 'stopping');
  try {
    await resources[Symbol.asyncDispose]();
  } catch (error) {
    process.exitCode = EXIT.failed;
    const failures =
      error instanceof AggregateError ? error.errors.map(describeError) : [describeError(error)];
    log.error({ failures }, 'not everything could be closed');
  }
  process.exitCode ??= EXIT.ok;
  log.info({ exitCode: process.exitCode }, `${spec.name} has stopped`);
}
