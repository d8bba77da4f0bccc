// SPDX-License-Identifier: Apache-2.0
// The life of a service process: settings, log, operators' HTTP, the service's own wiring, a signal, ordered shutdown.
import { type Clock, describeError, Fault, systemClock } from '@detour/core';
import { type Logger, pino } from 'pino';
import { type CommonConfig, commonSettings } from './common-settings.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { serveOps } from './ops-server.js';
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
    process.stderr.write(`${spec.name}: configuration refused\n${describeFault(error)}\n`);
    process.exitCode = exitCodeOf(error);
    return;
  }
  let traceIds: () => object = () => ({});
  let renderMetrics: () => Promise<string> = async () => '';
  const log = pino({
    level: config.logLevel,
    base: {
      service: spec.name,
      instance: config.instance,
      ...(config.gateway ? { gateway: config.gateway } : {}),
    },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    mixin: () => traceIds(),
  });

  const life = new AbortController();
  const stop = (why: string, error?: unknown) => {
    if (error !== undefined) {
      process.exitCode = exitCodeOf(error);
      log.error(
        { code: error instanceof Fault ? error.code : 'internal', stack: stackOf(error) },
        `${why}: ${describeError(error)}`,
      );
    } else if (!life.signal.aborted) log.info({}, `stopping: ${why}`);
    life.abort(new Fault('unavailable', `${spec.name} is stopping: ${why}`));
  };
  const onSignal = (signal: NodeJS.Signals) => {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal); // a second one ends the process at once
    stop(signal);
  };
  const onUncaught = (error: unknown) => stop('uncaught error', asFailure(error));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  process.on('uncaughtException', onUncaught).on('unhandledRejection', onUncaught);

  const resources = new ResourceStack();
  const readiness = new Readiness();
  readiness.set('start', false, 'starting');
  const stopped = new Promise<void>((resolve) => life.signal.addEventListener('abort', () => resolve()));
  life.signal.addEventListener('abort', () => {
    const hung = setTimeout(() => {
      const what = resources.closing ?? 'the start-up, or a handle that nobody closes';
      log.error({ resource: what }, `shutdown hangs: ${what}; ending the process`);
      process.kill(process.pid, 'SIGKILL');
    }, config.stopWithinMs);
    hung.unref();
  });
  // Keeps the loop alive until the signal, whatever the service does.
  const alive = setInterval(() => {}, 60_000);
  try {
    const ops = await serveOps({
      listen: config.metrics,
      ready: () => ({ ...readiness.report(), service: spec.name, instance: config.instance }),
      metrics: () => renderMetrics(),
    });
    resources.use(ops, 'metrics server');
    await wire({
      ...{
        name: spec.name,
        config,
        log,
        signal: life.signal,
        resources,
        readiness,
        clock: systemClock(),
        stop,
      },
      metricsAddress: ops.address,
      serveMetrics: (render) => {
        renderMetrics = render;
      },
      mixTraceIds: (ids) => {
        traceIds = ids;
      },
    });
    readiness.set('start', true);
    log.info({ metrics: ops.address }, `${spec.name} runs`);
    await stopped;
  } catch (error) {
    // What a pending call says while we stop is not a failure.
    if (!life.signal.aborted) stop('cannot start', error);
  }
  readiness.set('start', false, 'stopping');
  clearInterval(alive);
  try {
    await resources[Symbol.asyncDispose]();
  } catch (error) {
    process.exitCode = EXIT.failed;
    const failures =
      error instanceof AggregateError ? error.errors.map(describeError) : [describeError(error)];
    log.error({ failures }, 'not everything could be closed');
  }
  process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  process.exitCode ??= EXIT.ok;
  log.info({ exitCode: process.exitCode }, `${spec.name} has stopped`);
}

const describeFault = (error: unknown): string =>
  error instanceof Fault ? error.detail : describeError(error);

const stackOf = (error: unknown): string | undefined =>
  error instanceof Error && !(error instanceof Fault) ? error.stack : undefined;

/** An uncaught Fault is a defect, whatever its code says: exit code 1. */
function asFailure(error: unknown): Error {
  return error instanceof Fault
    ? new Error(error.detail, { cause: error })
    : error instanceof Error
      ? error
      : new Error(String(error));
}
