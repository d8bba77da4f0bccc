// SPDX-License-Identifier: Apache-2.0
/** Receives OpenTelemetry traces inside a namespace and keeps their spans. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fault } from '@detour/core';
import type { Lab } from './lab.js';
import type { Span } from './otlp-spans.js';
import { waitFor } from './wait.js';

export interface OtlpReceiver extends AsyncDisposable {
  /** For `DETOUR_OTLP`: `http://ADDRESS:PORT/v1/traces`. */
  readonly endpoint: string;
  /** All spans received so far, at most the last 100,000. */
  spans(): readonly Span[];
  /** The spans of one trace. */
  trace(traceId: string): readonly Span[];
  close(): Promise<void>;
}

export interface OtlpReceiverOptions {
  readonly ns: string;
  readonly address: string;
  /** Default 4318. */
  readonly port?: number;
}

const maxSpans = 100_000;

/** Returns once it listens. @throws Fault when it cannot. */
export async function startOtlpReceiver(lab: Lab, options: OtlpReceiverOptions): Promise<OtlpReceiver> {
  const { ns, address, port = 4318 } = options;
  const main = fileURLToPath(new URL('../dist/agents/otlp.js', import.meta.url));
  const receiver = lab.spawn(ns, [process.execPath, main, address, String(port)], {
    name: 'otlp',
    stdio: 'pipe',
  });
  const { stdout } = receiver.child;
  if (stdout === null) throw new Fault('internal', 'the OTLP receiver has no pipe');
  let isReady = false;
  let spans: Span[] = [];
  createInterface({ input: stdout }).on('line', (line) => {
    if (line === 'ready') isReady = true;
    else spans = [...spans, ...(JSON.parse(line) as Span[])].slice(-maxSpans);
  });
  const check = (): boolean => {
    if (!isReady && !receiver.isRunning())
      throw new Fault('unavailable', `OTLP receiver: ${receiver.log().trim()}`);
    return isReady;
  };
  await waitFor(check, { what: `the OTLP receiver on ${address}:${port} in ${ns}` });
  const close = (): Promise<void> => receiver.kill();
  return {
    endpoint: `http://${address.includes(':') ? `[${address}]` : address}:${port}/v1/traces`,
    spans: () => spans,
    trace: (traceId) => spans.filter((span) => span.traceId === traceId),
    close,
    [Symbol.asyncDispose]: close,
  };
}
