// SPDX-License-Identifier: Apache-2.0
// The OTLP exporter, and one log line each time the collector goes or is back.
import { describeError, type Log } from '@detour/core';
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace-base';

const EXPORT_TIMEOUT_MS = 3_000;

/** `http://host:4318` → its path for traces; an URL that has a path already stays. */
export function tracesUrl(otlp: string): string {
  const url = new URL(otlp);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url.href;
}

export class WatchedExporter implements SpanExporter {
  /** Spans that a collector did not take. */
  lost = 0;
  sent = 0;
  #exporter: OTLPTraceExporter;
  #url: string;
  #log: Log;
  #answers = true;

  constructor(otlp: string, log: Log) {
    this.#url = tracesUrl(otlp);
    this.#log = log;
    this.#exporter = new OTLPTraceExporter({ url: this.#url, timeoutMillis: EXPORT_TIMEOUT_MS });
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#exporter.export(spans, (result) => {
      const answers = result.code === ExportResultCode.SUCCESS;
      if (answers) this.sent += spans.length;
      else this.lost += spans.length;
      if (answers !== this.#answers) {
        this.#answers = answers;
        const fields = { otlp: this.#url, error: answers ? undefined : describeError(result.error) };
        if (answers) this.#log.info(fields, 'the trace collector answers again');
        else this.#log.warn(fields, 'the trace collector does not answer: traces are dropped until it does');
      }
      done({ code: ExportResultCode.SUCCESS }); // told above; the SDK would only report it a second time
    });
  }

  forceFlush(): Promise<void> {
    return this.#exporter.forceFlush();
  }
  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }
}
