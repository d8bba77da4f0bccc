// SPDX-License-Identifier: Apache-2.0
/** Draws the spans of one trace as a tree; pure. */
import type { Span } from './otlp-spans.js';

/**
 * One line a span, children below their parent in the order in which they started:
 * `tunnel-gw  punt  1.24 ms`, `├─ classifier  Classify  0.31 ms`. A span whose parent was not received stands at the root.
 */
export function renderTraceTree(spans: readonly Span[]): string {
  const known = new Set(spans.map((span) => span.spanId));
  const children = new Map<string, Span[]>();
  for (const span of [...spans].sort((a, b) => (BigInt(a.startNs) < BigInt(b.startNs) ? -1 : 1))) {
    const parent = known.has(span.parentId) && span.parentId !== span.spanId ? span.parentId : '';
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const draw = (span: Span, lead: string, branch: string, below: string): string[] => {
    const text = `${lead}${branch}${span.service}  ${span.name}  ${formatMs(span.durationUs)}${span.isError ? '  failed' : ''}`;
    const under = children.get(span.spanId) ?? [];
    return [
      text,
      ...under.flatMap((child, i) => {
        const isLast = i === under.length - 1;
        return draw(child, lead + below, isLast ? '└─ ' : '├─ ', isLast ? '   ' : '│  ');
      }),
    ];
  };
  return (children.get('') ?? []).flatMap((root) => draw(root, '', '', '')).join('\n');
}

function formatMs(durationUs: number): string {
  return `${(durationUs / 1_000).toFixed(2)} ms`;
}
