// SPDX-License-Identifier: Apache-2.0
/** The spans that the compose lab's receiver has printed so far. */
import type { Span } from '../otlp-spans.js';
import type { ComposeStack } from './compose-stack.js';

export async function receivedSpans(stack: ComposeStack): Promise<Span[]> {
  const lines = (await stack.logs('traces')).split('\n').filter((line) => line.startsWith('['));
  return lines.flatMap((line) => JSON.parse(line) as Span[]);
}
