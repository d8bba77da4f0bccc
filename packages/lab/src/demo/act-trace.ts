// SPDX-License-Identifier: Apache-2.0
/** Act 7: how one packet goes, step by step, and who had a part in setting up one flow. */
import { Fault } from '@detour/core';
import type { Span } from '../otlp-spans.js';
import { standardAddresses, standardPorts } from '../standard-lab.js';
import { renderTraceTree } from '../trace-tree.js';
import { waitFor } from '../wait.js';
import { type Act, expectThat, ms } from './act.js';
import type { Stage } from './stage.js';

/** As they name themselves in traces. */
const services = ['detour-tunnel-gw', 'detour-classifier', 'detour-path-selector'];
const attempts = 8;
/** Longer than any service's exporter keeps spans before it sends them. */
const batchMs = 2_000;

interface Traced {
  readonly verdict: string;
  readonly node: string;
  readonly egress: string;
  readonly steps: readonly unknown[];
}

export const traceAct: Act = {
  number: 7,
  title: 'Looking inside',
  async play(stage, tell) {
    const { client, server } = standardAddresses;
    const [web] = standardPorts.http;
    const packet = [
      '--gateway',
      'edge1',
      '--port',
      'inside',
      '--src',
      client,
      '--dst',
      server,
      '--dport',
      String(web),
    ];
    const table = await tell.step('detour trace of one packet', async () => {
      const startMs = performance.now();
      const { verdict, node, steps } = await stage.stack.cliJson<Traced>(['trace', ...packet]);
      const tookMs = performance.now() - startMs;
      expectThat(/^fw[12]$/.test(node), `verdict ${verdict}, node '${node}'`);
      const shown = await stage.detour.run('trace', ...packet);
      return [`${steps.length} steps, to ${node}, in ${ms(tookMs)}`, shown] as const;
    });
    tell.show(table);
    const tree = await tell.step("the trace of one flow's set-up", () => traceSetUp(stage));
    tell.show(tree);
  },
};

/** A machine that is busy with other things may miss the deadline for a flow: the trace shown is of one that was set up in time. */
async function traceSetUp(stage: Stage): Promise<readonly [string, string]> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const spans = await traceOne(stage);
    const root = spans.find(isRoot);
    if (root === undefined || !isWhole(spans)) continue;
    return [
      `${spans.length} spans across tunnel-gw, classifier, path-selector and Redis, ${ms(root.durationUs / 1_000)} in all`,
      renderTraceTree(spans),
    ];
  }
  throw new Fault(
    'timeout',
    `none of ${attempts} flows had spans of ${services.join(', ')} and Redis without an error`,
  );
}

/** Sets up one flow; its spans, once as many came in as come in, or as the time allows. */
async function traceOne({ traffic, otlp, signal }: Stage): Promise<readonly Span[]> {
  const remote = { address: standardAddresses.server, port: standardPorts.http[0] };
  const answer = await traffic.httpGet({ remote, path: '/' });
  expectThat(answer.ok, `no answer: ${JSON.stringify(answer)}`);
  const spansNow = (): readonly Span[] => {
    const root = otlp
      .spans()
      .find((span) => isRoot(span) && span.attributes['source.port'] === answer.localPort);
    return root === undefined ? [] : otlp.trace(root.traceId);
  };
  // Exporters send in batches, each service at a time of its own.
  const deadlineMs = performance.now() + batchMs;
  await waitFor(() => isWhole(spansNow()) || performance.now() > deadlineMs, {
    what: 'the spans of one flow',
    timeoutMs: 2 * batchMs,
    everyMs: 50,
    signal,
  });
  return spansNow();
}

function isRoot(span: Span): boolean {
  return span.name === 'flow.setup';
}

function isWhole(spans: readonly Span[]): boolean {
  return (
    services.every((name) => spans.some(({ service }) => service === name)) &&
    spans.some(({ name }) => name.startsWith('redis ')) &&
    spans.every(({ isError }) => !isError)
  );
}
