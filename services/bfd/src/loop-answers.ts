// SPDX-License-Identifier: Apache-2.0
// What the timing loop answers to questions about its sessions.
import type { LoopOrder, LoopReport } from './loop-messages.js';
import { nowUs } from './monotonic.js';
import type { RunningSession } from './running-session.js';

export type Question = Extract<LoopOrder, { kind: 'list' | 'measure' }>;

export function answerAbout(
  sessions: Iterable<RunningSession>,
  refused: ReadonlyMap<string, number>,
  { kind, ask }: Question,
): LoopReport {
  const now = nowUs();
  if (kind === 'measure')
    return { kind: 'measured', ask, rows: [...sessions].flatMap((session) => session.measure(now) ?? []) };
  const rows = [...sessions].map((session) => session.row(now));
  return { kind: 'listed', ask, rows, refused: Object.fromEntries(refused) };
}

/** The id of a session's other end; null unless both are on this machine. */
export function otherEnd({ spec }: RunningSession): string | null {
  const { node, vrf, end } = spec;
  return end === null ? null : `${node}/${vrf}/${end === 'a' ? 'b' : 'a'}`;
}
