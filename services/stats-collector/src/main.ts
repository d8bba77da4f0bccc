// SPDX-License-Identifier: Apache-2.0
/**
 * stats-collector: what each node is worth now.
 * In: intent.head and the revision that it names (NATS), exporters (HTTP), ReportAttributes (gRPC). Out: score.* (NATS), GetScores (gRPC),
 * alarms, its instance. State: readings, lost at a restart; what lasts is in the published scores.
 */
import { runService } from '@detour/runtime';
import { currentTraceIds, startTelemetry } from '@detour/telemetry';
import { SERVICE, settings } from './config.js';
import { wireStatsCollector } from './wire.js';

await runService({ name: SERVICE, settings }, async (ctx) => {
  const { instance, gateway, otlp, traceRatio } = ctx.config;
  const telemetry = startTelemetry({ service: SERVICE, instance, gateway, otlp, traceRatio, log: ctx.log });
  ctx.resources.use(telemetry, 'telemetry');
  ctx.serveMetrics(() => telemetry.metricsText());
  ctx.mixTraceIds(currentTraceIds);
  await wireStatsCollector(ctx, telemetry.meter);
});
