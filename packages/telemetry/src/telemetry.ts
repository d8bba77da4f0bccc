// SPDX-License-Identifier: Apache-2.0
// Sets OpenTelemetry up for this process: sampler, context, propagation, export, metrics.
import type { Log } from '@detour/core';
import {
  type Attributes,
  type Context,
  context,
  type Link,
  type Meter,
  metrics,
  propagation,
  type SpanKind,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  type SamplingResult,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-base';
import { WatchedExporter } from './otlp.js';
import { measureProcess, PrometheusReader } from './prometheus.js';
import { TRACER_NAME } from './trace-context.js';

export interface TelemetrySpec {
  readonly service: string;
  readonly instance: string;
  /** '' for controllers. */
  readonly gateway: string;
  /** OTLP/HTTP endpoint; '': spans are made (for logs and propagation) and not exported. */
  readonly otlp: string;
  /** Share of new traces that is sampled; a trace that came with a message keeps its sender's choice. */
  readonly traceRatio: number;
  readonly log: Log;
}

export interface Telemetry extends AsyncDisposable {
  readonly tracer: Tracer;
  readonly meter: Meter;
  /** Prometheus text of all instruments. */
  metricsText(): Promise<string>;
  /** Sends what is queued. */
  flush(): Promise<void>;
}

const EXPORT_EVERY_MS = 500;
const MAX_QUEUE = 2_048;
const CLOSE_WITHIN_MS = 1_000;

/** On a root span: it was chosen for a trace before it was made, by the same share. */
export const SAMPLED_ATTRIBUTE = 'detour.sampled';

/** A share of root spans, and all that were chosen before. */
class RootSampler implements Sampler {
  private readonly share: TraceIdRatioBasedSampler;

  constructor(ratio: number) {
    this.share = new TraceIdRatioBasedSampler(ratio);
  }

  shouldSample(
    parent: Context,
    traceId: string,
    _name: string,
    _kind: SpanKind,
    attributes: Attributes,
    _links: Link[],
  ): SamplingResult {
    if (attributes[SAMPLED_ATTRIBUTE] === true) return { decision: SamplingDecision.RECORD_AND_SAMPLED };
    return this.share.shouldSample(parent, traceId);
  }

  toString(): string {
    return `RootSampler{${this.share.toString()}}`;
  }
}

/** Once per process: it registers the global tracer, meter, context manager and propagator. */
export function startTelemetry(spec: TelemetrySpec): Telemetry {
  const resource = resourceFromAttributes({
    'service.name': `detour-${spec.service}`,
    'service.instance.id': spec.instance,
    ...(spec.gateway === '' ? {} : { 'detour.gateway': spec.gateway }),
  });
  const exporter = spec.otlp === '' ? null : new WatchedExporter(spec.otlp, spec.log);
  const tracing = new BasicTracerProvider({
    resource,
    sampler: new ParentBasedSampler({ root: new RootSampler(spec.traceRatio) }),
    spanProcessors:
      exporter === null
        ? []
        : [
            new BatchSpanProcessor(exporter, {
              scheduledDelayMillis: EXPORT_EVERY_MS,
              maxQueueSize: MAX_QUEUE,
            }),
          ],
  });
  const reader = new PrometheusReader();
  const metering = new MeterProvider({ resource, readers: [reader] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(tracing);
  metrics.setGlobalMeterProvider(metering);
  const meter = metering.getMeter(TRACER_NAME);
  const endMeasuring = measureProcess(meter);
  if (exporter !== null) {
    const spans = { sent: () => exporter.sent, lost: () => exporter.lost };
    for (const [fate, count] of Object.entries(spans)) {
      meter
        .createObservableCounter(`detour_spans_${fate}`, { description: `spans ${fate} by the exporter` })
        .addCallback((result) => result.observe(count()));
    }
  }
  return {
    tracer: tracing.getTracer(TRACER_NAME),
    meter,
    metricsText: () => reader.text(),
    flush: () => tracing.forceFlush(),
    [Symbol.asyncDispose]: async () => {
      endMeasuring();
      await within(CLOSE_WITHIN_MS, tracing.shutdown());
      await metering.shutdown();
      trace.disable();
      context.disable();
      propagation.disable();
      metrics.disable();
    },
  };
}

/** Waits for `work` or for `ms`, whichever is first: a collector that is away must not hold up the shutdown. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => {}), late]);
  clearTimeout(timer);
}
