// SPDX-License-Identifier: Apache-2.0
/**
 * classifier: which chain a flow is for.
 * In: intent.head and the revision that it names (NATS). Out: Classify and WatchRules (gRPC), alarms, its instance (NATS).
 * State: none of its own; the tables are a pure function of the revision in force.
 */
import { runService } from '@detour/runtime';
import { currentTraceIds, startTelemetry } from '@detour/telemetry';
import { SERVICE, settings } from './config.js';
import { wireClassifier } from './wire.js';

await runService({ name: SERVICE, settings }, async (ctx) => {
  const { instance, gateway, otlp, traceRatio } = ctx.config;
  const telemetry = startTelemetry({ service: SERVICE, instance, gateway, otlp, traceRatio, log: ctx.log });
  ctx.resources.use(telemetry, 'telemetry');
  ctx.serveMetrics(() => telemetry.metricsText());
  ctx.mixTraceIds(currentTraceIds);
  await wireClassifier(ctx, telemetry.meter);
});
