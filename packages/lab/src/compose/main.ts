// SPDX-License-Identifier: Apache-2.0
/**
 * What `make compose-demo` shows once the stack is up: the intent applied from the command line's image, the first steered packet, both firewalls'
 * view, a trace. In: when `up` began, milliseconds since 1970. Out: one line a step; exit code 1 when one does not hold.
 */
import { describeError, Fault } from '@detour/core';
import type { Span } from '../otlp-spans.js';
import { renderTraceTree } from '../trace-tree.js';
import { waitFor } from '../wait.js';
import { composeAddresses as at, ComposeStack } from './compose-stack.js';
import { receivedSpans } from './received-spans.js';

const upSinceMs = Number(process.argv[2] ?? Date.now());
const say = (text: string): void => void process.stdout.write(`${text}\n`);

try {
  await tell(await ComposeStack.open());
} catch (error) {
  process.stderr.write(
    `compose-demo: ${describeError(error)}\nWhat is up stays up; make compose-down takes it down.\n`,
  );
  process.exitCode = 1;
}

async function tell(stack: ComposeStack): Promise<void> {
  const applied = await stack.cli(['apply', '-f', '/etc/detour/intent.yaml', '--wait', '--timeout', '30s']);
  if (applied.code !== 0) throw new Fault('refused', `detour apply: ${applied.stderr}${applied.stdout}`);
  say(`✓ applied from the CLI image: ${applied.stdout.split('\n')[0]}`);
  await using client = await stack.traffic('client');
  const get = (port: number, timeoutMs = 1_000) =>
    client.httpGet({ remote: { address: at.server, port }, path: '/', timeoutMs });
  const first = await waitFor(
    async () => {
      const result = await get(at.http);
      return result.ok ? result : undefined;
    },
    { what: 'an answer from the server through a firewall', timeoutMs: 60_000, everyMs: 100 },
  );
  const afterMs = Date.now() - upSinceMs;
  const seen = await Promise.all(
    ['fw1', 'fw2'].map(async (name) => ({ name, rows: await stack.conntrack(name) })),
  );
  const through = seen.find(({ rows }) =>
    rows.some((row) => row.sourcePort === first.localPort && row.replied),
  );
  if (through === undefined)
    throw new Fault('internal', 'no firewall has seen both directions of the connection');
  say(
    `✓ ${at.client} → ${at.server}:${at.http}: ${first.status}, both directions through ${through.name} (its conntrack)`,
  );
  say(`✓ from up to the first steered packet's answer: ${(afterMs / 1_000).toFixed(1)} s`);
  const forbidden = await get(at.forbidden);
  if (forbidden.ok) throw new Fault('internal', `port ${at.forbidden} answered: the firewall should drop it`);
  say(`✓ port ${at.forbidden}, which the firewalls forbid: ${forbidden.error}`);
  const straight = await get(at.unruled);
  if (!straight.ok) throw new Fault('internal', `port ${at.unruled}, which no rule names: ${straight.error}`);
  say(`✓ port ${at.unruled}, which no rule names, goes straight: ${straight.status}`);
  say(`✓ the trace of a new flow:\n${renderTraceTree(await flowTrace(stack))}`);
  say('\nIt goes on running. Try: docker compose run --rm cli status   (take it down: make compose-down)');
}

/** The spans of one new flow in which all services took part. */
async function flowTrace(stack: ComposeStack): Promise<readonly Span[]> {
  return waitFor(
    async () => {
      const spans = await receivedSpans(stack);
      const roots = spans.filter((span) => span.name === 'flow.setup');
      const traces = roots.map(({ traceId }) => spans.filter((span) => span.traceId === traceId));
      return traces.find((trace) => new Set(trace.map(({ service }) => service)).size >= 3);
    },
    { what: 'a trace of a new flow at the receiver', timeoutMs: 30_000, everyMs: 500 },
  );
}
