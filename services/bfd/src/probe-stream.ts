// SPDX-License-Identifier: Apache-2.0
// What was measured through nodes, told at an interval on the stream that tells their health.
import type { HealthReport } from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import type { MeasuredRow } from './loop-messages.js';
import { probeRows } from './probe-rows.js';

/** Oftener than this nobody is told, whatever they ask for: the timing thread has packets to send. */
const MIN_EVERY_MS = 100;

export interface Measuring {
  /** Since the last call. */
  measure(): Promise<readonly MeasuredRow[]>;
}

export interface MeasuredSpec {
  /** 0: never. */
  readonly everyMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly write: (report: HealthReport) => void;
}

/** @returns what ends it */
export function tellMeasured(sessions: Measuring, spec: MeasuredSpec): () => void {
  const { everyMs, clock, log, write } = spec;
  if (everyMs === 0) return () => {};
  let ended = false;
  let cancel = () => {};
  const next = () => {
    if (!ended) cancel = clock.after(Math.max(everyMs, MIN_EVERY_MS), () => void tell());
  };
  const tell = async (): Promise<void> => {
    try {
      const measured = probeRows(await sessions.measure());
      if (!ended && measured.length > 0) write({ snapshot: false, nodes: [], measured });
    } catch (error) {
      log.debug({}, `what probes measured is not told this time: ${describeError(error)}`);
    }
    next();
  };
  next();
  return () => {
    ended = true;
    cancel();
  };
}
