// SPDX-License-Identifier: Apache-2.0
/**
 * path-selector: which nodes a chain's flow goes through.
 * In: intent.head and its revision, score.*, drain.*, health.* (NATS). Out: SelectPath and WatchPaths (gRPC), pins (Redis), alarms, its
 * instance (NATS). State: none of its own; the table is a pure function of one version of the bucket, pins are in Redis.
 */
import { runService } from '@detour/runtime';
import { currentTraceIds, startTelemetry } from '@detour/telemetry';
import { SERVICE, settings } from './config.js';
import { wirePathSelector } from './wire.js';

await runService({ name: SERVICE, settings }, async (ctx) => {
  const { instance, gateway, otlp, traceRatio } = ctx.config;
  const telemetry = startTelemetry({ service: SERVICE, instance, gateway, otlp, traceRatio, log: ctx.log });
  ctx.resources.use(telemetry, 'telemetry');
  ctx.serveMetrics(() => telemetry.metricsText());
  ctx.mixTraceIds(currentTraceIds);
  await wirePathSelector(ctx, telemetry.meter);
});
