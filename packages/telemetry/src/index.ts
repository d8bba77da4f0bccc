// SPDX-License-Identifier: Apache-2.0
// OpenTelemetry for a service: traces over OTLP, metrics as Prometheus text, trace context as text.
export { type TallySpec, tally } from './tally.js';
export { SAMPLED_ATTRIBUTE, startTelemetry, type Telemetry, type TelemetrySpec } from './telemetry.js';
export {
  currentTraceIds,
  inSpan,
  type SpanOptions,
  startSpan,
  traceparentOf,
  withSpan,
} from './trace-context.js';
