// SPDX-License-Identifier: Apache-2.0
/** Act 7: how one packet goes, step by step, and who had a part in setting up one flow. */
import type { Span } from '../otlp-spans.js';
import { standardAddresses, standardPorts } from '../standard-lab.js';
import { renderTraceTree } from '../trace-tree.js';
import { waitFor } from '../wait.js';
import { type Act, expectThat, ms } from './act.js';
import type { Stage } from './stage.js';

const services = ['tunnel-gw', 'classifier', 'path-selector'];

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
    const packet = ['--gateway', 'edge1', '--port', 'inside', '--src', client, '--dst', server, '--dport', String(web)];
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

async function traceSetUp({ traffic, otlp, signal }: Stage): Promise<readonly [string, string]> {
  const remote = { address: standardAddresses.server, port: standardPorts.http[0] };
  const answer = await traffic.httpGet({ remote, path: '/' });
  expectThat(answer.ok, `no answer: ${JSON.stringify(answer)}`);
  const isRoot = (span: Span): boolean =>
    span.parentId === '' && span.attributes['source.port'] === answer.localPort;
  const isRedis = (span: Span): boolean => /redis|affinity/.test(span.name);
  const findWhole = (): readonly Span[] | undefined => {
    const root = otlp.spans().find(isRoot);
    const spans = root && otlp.trace(root.traceId);
    const isWhole = spans?.some(isRedis) && services.every((name) => spans.some(({ service }) => service === name));
    return isWhole ? spans : undefined;
  };
  const spans = await waitFor(findWhole, {
    what: `the spans of ${services.join(', ')} and Redis for port ${answer.localPort}`,
    timeoutMs: 15_000,
    everyMs: 50,
    signal,
  });
  const root = spans.find(isRoot);
  return [
    `${spans.length} spans of ${services.join(', ')} and Redis, ${ms((root?.durationUs ?? Number.NaN) / 1_000)} in all`,
    renderTraceTree(spans),
  ];
}
