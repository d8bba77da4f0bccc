// SPDX-License-Identifier: Apache-2.0
// W3C trace context through call metadata, by interceptors (auto-instrumentation patches nothing in ES modules). Long streams are left
// out: their messages carry a traceparent each.

import {
  InterceptingCall,
  type Interceptor,
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  status,
} from '@grpc/grpc-js';
import {
  type Context,
  context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';

const tracer = () => trace.getTracer('@detour/rpc');

function endSpan(span: Span, code: status, details: string): void {
  span.setAttribute('rpc.grpc.status_code', code);
  if (code !== status.OK) span.setStatus({ code: SpanStatusCode.ERROR, message: details });
  span.end();
}

export const traceClient: Interceptor = (options, nextCall) => {
  const { path, requestStream } = options.method_definition;
  if (requestStream) return new InterceptingCall(nextCall(options));
  return new InterceptingCall(nextCall(options), {
    start: (metadata, _listener, next) => {
      const span = tracer().startSpan(path.slice(1), { kind: SpanKind.CLIENT });
      const carrier: Record<string, string> = {};
      propagation.inject(trace.setSpan(context.active(), span), carrier, defaultTextMapSetter);
      for (const [key, value] of Object.entries(carrier)) metadata.set(key, value);
      next(metadata, {
        onReceiveStatus: (end, forward) => {
          endSpan(span, end.code, end.details);
          forward(end);
        },
      });
    },
  });
};

function contextOf(metadata: Metadata): Context {
  const carrier: Record<string, string> = {};
  for (const key of ['traceparent', 'tracestate']) {
    const value = metadata.get(key)[0];
    if (typeof value === 'string') carrier[key] = value;
  }
  return propagation.extract(context.active(), carrier, defaultTextMapGetter);
}

export const traceServer: ServerInterceptor = (method, call) => {
  if (method.requestStream) return new ServerInterceptingCall(call);
  let span: Span | undefined;
  let within = context.active();
  return new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata, forward) => {
          const parent = contextOf(metadata);
          span = tracer().startSpan(method.path.slice(1), { kind: SpanKind.SERVER }, parent);
          within = trace.setSpan(parent, span);
          context.with(within, () => forward(metadata));
        },
        onReceiveMessage: (message, forward) => context.with(within, () => forward(message)),
        onReceiveHalfClose: (forward) => context.with(within, () => forward()),
        onCancel: () => {
          if (span !== undefined) endSpan(span, status.CANCELLED, 'cancelled');
        },
      }),
    sendStatus: (end, next) => {
      if (span !== undefined) endSpan(span, end.code ?? status.UNKNOWN, end.details ?? '');
      next(end);
    },
  });
};
