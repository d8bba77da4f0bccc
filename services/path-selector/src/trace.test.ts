// SPDX-License-Identifier: Apache-2.0
// The trace of one sampled question: the selector's span under the gateway's, the Redis operation under the selector's.
import { openAffinity } from '@detour/affinity';
import { SelectQuestion, TableVersion } from '@detour/contracts';
import { parseAddress, silentLog } from '@detour/core';
import { ResourceStack } from '@detour/runtime';
import { revisionOf, startRedis, until } from '@detour/testkit';
import { context, metrics, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { expect, it } from 'vitest';
import { LivePaths } from './live-paths.js';
import { observeSelector } from './observe.js';
import { selectPath } from './select-path.js';
import { exampleText } from './testdata.js';

it('a sampled question is a span under its traceparent, with a child for Redis; an unsampled one is none', async () => {
  await using resources = new ResourceStack();
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const redis = resources.use(await startRedis());
  const affinity = resources.use(openAffinity({ url: redis.url, log: silentLog, budgetMs: 1_000 }));
  await until(() => affinity.connected);
  const paths = new LivePaths(() => 'up');
  const facts = { scoreOf: () => null, otherZoneScoreOf: () => null, drained: () => false };
  const version = TableVersion.fromPartial({ epoch: 'e', sequence: 1n, revision: 1 });
  expect(paths.apply(revisionOf(exampleText({ firewalls: ['', ''] })), facts, version)).toBeNull();
  const observed = observeSelector(metrics.getMeter('test'), paths, affinity);
  const ask = (traceparent: string, sport: number) => {
    const [src, dst] = ['10.1.0.1', '203.0.113.9'].map((text) => parseAddress(text) ?? new Uint8Array());
    const tuple = { vrf: 1, src: src as Uint8Array, dst: dst as Uint8Array, sport, dport: 443, proto: 6 };
    const question = SelectQuestion.fromPartial({ id: 1n, traceparent, gateway: 'edge1', tuple, chain: 1 });
    return observed.question(question, () => selectPath(question, paths, affinity));
  };

  await ask('', 4000);
  expect(exporter.getFinishedSpans()).toEqual([]);
  const given = await ask('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 4001);
  const spans = exporter.getFinishedSpans();
  const own = spans.find(({ name }) => name === 'path-selector.select-path');
  const child = spans.find(({ name }) => name.startsWith('redis'));
  expect(spans).toHaveLength(2);
  expect(own?.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c');
  expect(own?.parentSpanContext?.spanId).toBe('b7ad6b7169203331');
  expect(child?.parentSpanContext?.spanId).toBe(own?.spanContext().spanId);
  expect(own?.attributes).toMatchObject({
    'detour.gateway': 'edge1',
    'detour.flow': '10.1.0.1:4001 > 203.0.113.9:443 protocol 6',
    'detour.outcome': 'selected',
    'detour.path': given.path,
  });
});
