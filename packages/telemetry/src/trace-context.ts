// SPDX-License-Identifier: Apache-2.0
// Trace context as text (W3C Trace Context, section 3.2), for messages that have a traceparent field, and spans around functions.
import { describeError } from '@detour/core';
import {
  type Attributes,
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  type SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { parseTraceParent } from '@opentelemetry/core';

export const TRACER_NAME = 'detour';

export interface SpanOptions {
  /** traceparent of the message that asked; '' when its trace is not sampled: then no span is made. Absent: the active span. */
  readonly parent?: string;
  readonly kind?: SpanKind;
  readonly attributes?: Attributes;
}

/** `00-<trace>-<span>-01` of `span` (default: the active one); '' when there is none or it is not sampled. */
export function traceparentOf(span: Span | undefined = trace.getActiveSpan()): string {
  const found = span?.spanContext();
  if (found === undefined || !isSpanContextValid(found)) return '';
  if ((found.traceFlags & TraceFlags.SAMPLED) === 0) return '';
  return `00-${found.traceId}-${found.spanId}-01`;
}

/** Ids of the active span for a log line; {} without one. */
export function currentTraceIds(): { trace_id?: string; span_id?: string } {
  const found = trace.getActiveSpan()?.spanContext();
  return found !== undefined && isSpanContextValid(found)
    ? { trace_id: found.traceId, span_id: found.spanId }
    : {};
}

/** null: the parent says that its trace is not sampled (or says nothing that can be read). */
function parentContext(parent: string | undefined): Context | null {
  if (parent === undefined) return context.active();
  const remote = parseTraceParent(parent);
  return remote === null ? null : trace.setSpanContext(ROOT_CONTEXT, { ...remote, isRemote: true });
}

/** A span that the caller ends. One with an unsampled or unreadable parent records nothing. */
export function startSpan(name: string, options: SpanOptions = {}): Span {
  const parent = parentContext(options.parent);
  if (parent === null) return trace.wrapSpanContext(INVALID_SPAN_CONTEXT);
  const { kind, attributes } = options;
  const given = {
    ...(kind === undefined ? {} : { kind }),
    ...(attributes === undefined ? {} : { attributes }),
  };
  return trace.getTracer(TRACER_NAME).startSpan(name, given, parent);
}

/** Runs `fn` with `span` active; the span is not ended. */
export function inSpan<T>(span: Span, fn: () => T): T {
  return context.with(trace.setSpan(context.active(), span), fn);
}

/** Runs `fn` in a new span that ends with it; what it throws or rejects with is recorded and passed on. */
export function withSpan<T>(name: string, options: SpanOptions, fn: (span: Span) => T): T {
  const span = startSpan(name, options);
  const fail = (error: unknown) => {
    span.setStatus({ code: SpanStatusCode.ERROR, message: describeError(error) });
    if (error instanceof Error) span.recordException(error);
    span.end();
  };
  try {
    const result = inSpan(span, () => fn(span));
    if (!(result instanceof Promise)) {
      span.end();
      return result;
    }
    return result.then(
      (value) => {
        span.end();
        return value;
      },
      (error: unknown) => {
        fail(error);
        throw error;
      },
    ) as T;
  } catch (error) {
    fail(error);
    throw error;
  }
}
