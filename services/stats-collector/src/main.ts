// SPDX-License-Identifier: Apache-2.0
/**
 * stats-collector: what each node is worth now.
 * In: intent.head and the revision that it names (NATS), exporters (HTTP), ReportAttributes (gRPC). Out: score.* (NATS), GetScores (gRPC),
 * alarms, its instance. State: readings, lost at a restart; what lasts is in the published scores.
 */
import { runService } from '@detour/runtime';
import { SERVICE, settings } from './config.js';
import { wireStatsCollector } from './wire.js';

await runService({ name: SERVICE, settings }, async (ctx) => {
  await wireStatsCollector(ctx);
});
