// SPDX-License-Identifier: Apache-2.0
// Asks a path-selector as a gateway does: questions on one long stream, each about another new flow, so many open at once. In: its address, the
// gateway's name, the chain's number.
import { PathSelectorClient, type SelectAnswer, type SelectQuestion } from '@detour/contracts';
import { silentLog } from '@detour/core';
import { openStream, QuestionStream } from '@detour/rpc';
import { serveAgent } from '../agent.js';

export interface AskRequest {
  /** Flows are numbered on from here. */
  readonly first: number;
  readonly window: number;
  readonly ms: number;
}

export interface AskReply {
  readonly answered: number;
  /** No answer in time, or an error in its place. */
  readonly failed: number;
  readonly seconds: number;
}

const [address = '', gateway = '', chain = ''] = process.argv.slice(2);
const ANSWER_WITHIN_MS = 5_000;
const TCP = 6;
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] as const;

const stream = new QuestionStream({
  ...{ key: gateway, log: silentLog, instances: () => [address] },
  name: 'select-path',
  timeoutMs: ANSWER_WITHIN_MS,
  open: (at) => openStream(PathSelectorClient, at, (client) => client.selectPath()),
  pack: (questions: SelectQuestion[]) => ({ questions }),
  unpack: (batch: { answers: SelectAnswer[] }) => batch.answers,
});

function question(flow: number): Omit<SelectQuestion, 'id'> {
  const tuple = {
    vrf: 1,
    src: Uint8Array.of(...MAPPED, 10, 1, (flow >>> 8) & 0xff, flow & 0xff),
    dst: Uint8Array.of(...MAPPED, 203, 0, 113, 99),
    ...{ sport: 1_024 + (flow >>> 16), dport: 443, proto: TCP },
  };
  return {
    ...{ traceparent: '', gateway, tuple, chain: Number(chain), rule: 1, midflow: false, preferred: 0 },
  };
}

await serveAgent<AskRequest, AskReply>(async ({ first, window, ms }) => {
  const began = performance.now();
  let flow = first;
  let answered = 0;
  let failed = 0;
  const ask = async (): Promise<void> => {
    while (performance.now() - began < ms) {
      const answer = await stream.ask(question(flow++)).catch(() => null);
      if (answer === null || answer.error !== '' || answer.path === 0) failed++;
      else answered++;
    }
  };
  await Promise.all(Array.from({ length: window }, ask));
  return { answered, failed, seconds: (performance.now() - began) / 1_000 };
});
