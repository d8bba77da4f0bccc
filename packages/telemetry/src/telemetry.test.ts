// SPDX-License-Identifier: Apache-2.0
import { createServer } from 'node:http';
import { type Log, silentLog } from '@detour/core';
import { freePort, until } from '@detour/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { tracesUrl } from './otlp.js';
import { startTelemetry, type Telemetry, type TelemetrySpec } from './telemetry.js';
import { currentTraceIds, inSpan, startSpan, traceparentOf, withSpan } from './trace-context.js';

let running: Telemetry | null = null;
const start = (overrides: Partial<TelemetrySpec> = {}) => {
  running = startTelemetry({
    ...{ service: 'probe', instance: 'i1', gateway: 'edge1', otlp: '', traceRatio: 1, log: silentLog },
    ...overrides,
  });
  return running;
};
afterEach(async () => {
  await running?.[Symbol.asyncDispose]();
  running = null;
});

/** An HTTP server that takes OTLP and keeps the bodies. */
async function receiver(port = 0) {
  const bodies: Buffer[] = [];
  const paths: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      bodies.push(Buffer.concat(parts));
      paths.push(request.url);
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const bound = server.address();
  const url = `http://127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`;
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { url, bodies, paths, [Symbol.asyncDispose]: close };
}

describe('trace context', () => {
  it('crosses a message as text', () => {
    start();
    const sender = startSpan('ask');
    const text = traceparentOf(sender);
    expect(text).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    withSpan('answer', { parent: text }, (span) => {
      expect(span.spanContext().traceId).toBe(sender.spanContext().traceId);
      expect(span.spanContext().spanId).not.toBe(sender.spanContext().spanId);
      expect(currentTraceIds()).toEqual({
        trace_id: sender.spanContext().traceId,
        span_id: span.spanContext().spanId,
      });
    });
  });

  it('stays with the work across awaits', async () => {
    start();
    await withSpan('outer', {}, async (outer) => {
      await new Promise((resolve) => setImmediate(resolve));
      expect(traceparentOf()).toBe(traceparentOf(outer));
      await withSpan('inner', {}, async (inner) => {
        await Promise.resolve();
        expect(inner.spanContext().traceId).toBe(outer.spanContext().traceId);
      });
    });
    expect(currentTraceIds()).toEqual({});
    const span = startSpan('given');
    expect(inSpan(span, () => traceparentOf())).toBe(traceparentOf(span));
  });

  it('makes no span for a parent that is not sampled or not readable', () => {
    start();
    for (const parent of ['', 'nonsense', `00-${'0'.repeat(32)}-${'0'.repeat(16)}-01`]) {
      withSpan('answer', { parent }, (span) => {
        expect(span.isRecording()).toBe(false);
        expect(traceparentOf()).toBe('');
        expect(currentTraceIds()).toEqual({});
      });
    }
  });

  it('samples by ratio, and follows the sender', () => {
    start({ traceRatio: 0 });
    expect(traceparentOf(startSpan('root'))).toBe('');
    const parent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    expect(traceparentOf(startSpan('child', { parent }))).toContain('a'.repeat(32));
  });

  it('passes errors on', async () => {
    start();
    expect(() =>
      withSpan('fails', {}, () => {
        throw new Error('sync');
      }),
    ).toThrow('sync');
    await expect(withSpan('fails', {}, () => Promise.reject(new Error('async')))).rejects.toThrow('async');
  });

  it('works without telemetry', () => {
    expect(withSpan('nothing', {}, () => traceparentOf())).toBe('');
  });
});

describe('startTelemetry', () => {
  it('exports spans as OTLP', async () => {
    await using collector = await receiver();
    const telemetry = start({ otlp: collector.url });
    withSpan('classify-this-flow', { attributes: { 'detour.rule': 'web-out' } }, () => {});
    await telemetry.flush();
    await until(() => collector.bodies.length > 0);
    const sent = Buffer.concat(collector.bodies).toString('latin1');
    for (const part of ['classify-this-flow', 'detour.rule', 'web-out', 'detour-probe', 'edge1'])
      expect(sent).toContain(part);
    expect(collector.paths[0]).toBe('/v1/traces');
  });

  it('goes on without a collector, says so once, and exports when it comes', async () => {
    const said: string[] = [];
    const log: Log = { ...silentLog, warn: (_, text) => said.push(text), info: (_, text) => said.push(text) };
    const port = await freePort();
    const telemetry = start({ otlp: `http://127.0.0.1:${port}`, log });
    for (let i = 0; i < 3; i++) {
      withSpan(`lost-${i}`, {}, () => {});
      await telemetry.flush();
    }
    await until(() => said.length === 1, { timeoutMs: 20_000 });
    await using collector = await receiver(port);
    await until(
      async () => {
        withSpan('kept', {}, () => {});
        await telemetry.flush();
        return collector.bodies.length > 0;
      },
      { timeoutMs: 20_000 },
    );
    await until(() => said.length === 2);
    expect(said).toEqual([
      'the trace collector does not answer: traces are dropped until it does',
      'the trace collector answers again',
    ]);
    expect(await telemetry.metricsText()).toMatch(/detour_spans_lost_total [1-9]/);
  });

  it('closes within its time while the collector is away', async () => {
    start({ otlp: `http://127.0.0.1:${await freePort()}` });
    withSpan('lost', {}, () => {});
    const since = performance.now();
    await running?.[Symbol.asyncDispose]();
    running = null;
    expect(performance.now() - since).toBeLessThan(3_000);
  });

  it('renders metrics as Prometheus text', async () => {
    const telemetry = start();
    telemetry.meter
      .createCounter('detour_flows_decided', { description: 'flows decided' })
      .add(3, { by: 'controller' });
    telemetry.meter.createObservableGauge('detour_flows').addCallback((result) => result.observe(7));
    const text = await telemetry.metricsText();
    expect(text).toContain('detour_flows_decided_total{by="controller"} 3');
    expect(text).toContain('detour_flows 7');
    expect(text).toMatch(/process_resident_memory_bytes \d{6,}/);
    expect(text).toMatch(/target_info\{[^}]*service_name="detour-probe"/);
  });
});

describe('tracesUrl', () => {
  it('adds the path for traces unless there is one', () => {
    expect(tracesUrl('http://h:4318')).toBe('http://h:4318/v1/traces');
    expect(tracesUrl('http://h:4318/')).toBe('http://h:4318/v1/traces');
    expect(tracesUrl('http://h:1/otlp/traces')).toBe('http://h:1/otlp/traces');
  });
});
