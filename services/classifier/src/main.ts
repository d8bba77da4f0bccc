// SPDX-License-Identifier: Apache-2.0
/**
 * classifier: which chain a flow is for.
 * In: intent.head and the revision that it names (NATS). Out: Classify and WatchRules (gRPC), alarms, its instance (NATS).
 * State: none of its own; the tables are a pure function of the revision in force.
 */
import { runService } from '@detour/runtime';
import { SERVICE, settings } from './config.js';
import { wireClassifier } from './wire.js';

await runService({ name: SERVICE, settings }, async (ctx) => {
  await wireClassifier(ctx);
});
