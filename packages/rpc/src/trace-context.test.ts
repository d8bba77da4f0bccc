// SPDX-License-Identifier: Apache-2.0
// Trace context over a real call, with the real SDK.
import { GatewayClient, GatewayService, TraceRequest, TraceResponse } from '@detour/contracts';
import { Fault, silentLog } from '@detour/core';
import { until } from '@detour/testkit';
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { callUnary, connectClient } from './client.js';
import { serverStream, unary } from './handlers.js';
import { implement, serve } from './serve.js';

const exporter = new InMemorySpanExporter();
beforeEach(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
});
afterEach(() => {
  exporter.reset();
  trace.disable();
  propagation.disable();
  context.disable();
});

const unused = () => {
  throw new Fault('missing_feature', 'not here');
};
const listen = (answer: () => TraceResponse) =>
  serve({
    address: '127.0.0.1:0',
    log: silentLog,
    services: [
      implement(GatewayService, {
        trace: unary(async () => {
          await new Promise((resolve) => setImmediate(resolve));
          trace.getTracer('test').startSpan('work').end();
          return answer();
        }),
        getFlows: serverStream(unused),
        getStatus: unary(unused),
        getCounters: unary(unused),
        getTables: unary(unused),
        programFlow: unary(unused),
      }),
    ],
  });

describe('trace context', () => {
  it('makes one trace of caller, call and handler', async () => {
    await using server = await listen(() => TraceResponse.create());
    using peer = connectClient(GatewayClient, server.address);
    const outer = trace.getTracer('test').startSpan('outer');
    await context.with(trace.setSpan(context.active(), outer), () =>
      callUnary(peer.client.trace.bind(peer.client), TraceRequest.create(), { deadlineMs: 2_000 }),
    );
    await until(() => exporter.getFinishedSpans().length === 3);
    const spans = exporter.getFinishedSpans();
    const of = (kind: SpanKind) => spans.find((span) => span.kind === kind);
    const [call, served] = [of(SpanKind.CLIENT), of(SpanKind.SERVER)];
    const work = spans.find((span) => span.name === 'work');
    expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(
      new Set([outer.spanContext().traceId]),
    );
    expect(call?.parentSpanContext?.spanId).toBe(outer.spanContext().spanId);
    expect(served?.parentSpanContext?.spanId).toBe(call?.spanContext().spanId);
    expect(work?.parentSpanContext?.spanId).toBe(served?.spanContext().spanId);
    expect(served?.name).toBe('detour.v1.Gateway/Trace');
  });

  it('says in both spans that a call failed', async () => {
    await using server = await listen(unused);
    using peer = connectClient(GatewayClient, server.address);
    const call = callUnary(peer.client.trace.bind(peer.client), TraceRequest.create(), { deadlineMs: 2_000 });
    await expect(call).rejects.toMatchObject({ code: 'missing_feature' });
    await until(() => exporter.getFinishedSpans().length === 3);
    const failed = exporter.getFinishedSpans().filter((span) => span.status.code === SpanStatusCode.ERROR);
    expect(failed.map((span) => span.kind).sort()).toEqual([SpanKind.SERVER, SpanKind.CLIENT].sort());
  });
});
