// SPDX-License-Identifier: Apache-2.0
// A span for work in Redis.
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Answer } from './link.js';

/** A span around `work` if it belongs to a trace that is sampled; never a new trace. */
export async function traced<T>(name: string, work: () => Promise<Answer<T>[]>): Promise<Answer<T>[]> {
  if (trace.getActiveSpan()?.isRecording() !== true) return work();
  const span = trace.getTracer('@detour/affinity').startSpan(name, { kind: SpanKind.CLIENT });
  const answers = await work();
  for (const answer of answers) {
    if (answer.ok) continue;
    span.setStatus({ code: SpanStatusCode.ERROR, message: answer.why });
    break;
  }
  span.end();
  return answers;
}
