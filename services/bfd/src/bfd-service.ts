// SPDX-License-Identifier: Apache-2.0
// The gRPC service Bfd: health as a stream that is written to in the very turn in which a change is told, sessions, AdminDown.

import { type Announced, BfdService, type HealthReport, type SteeringReport } from '@detour/contracts';
import type { Clock, Log } from '@detour/core';
import { implement, type ServiceImplementation, unary } from '@detour/rpc';
import type { SessionList } from './engine.js';
import type { HealthBoard } from './health-board.js';
import { type Measuring, tellMeasured } from './probe-stream.js';
import { healthReport, sessionMessage } from './session-messages.js';

/** What the service needs of the sessions. */
export interface Sessions extends Measuring {
  list(): Promise<SessionList>;
  setAdminDown(id: string, down: boolean): Promise<void>;
}

export interface BfdServiceSpec {
  readonly sessions: Sessions;
  readonly board: HealthBoard;
  /** What tunnel-gw said; answers whether this gateway is announced. */
  readonly heardOf: (steering: SteeringReport) => Announced;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends all streams: nobody waits for a process that stops. */
  readonly signal: AbortSignal;
}

export function bfdService({
  sessions,
  board,
  heardOf,
  clock,
  log,
  signal,
}: BfdServiceSpec): ServiceImplementation {
  return implement(BfdService, {
    watchHealth: (call) => {
      // Written without waiting for the reader: a change is small, and the one reader is on this machine.
      const off = board.listen((news) => void call.write(healthReport(news)));
      const { measureEveryMs } = call.request;
      const write = (report: HealthReport) => void call.write(report);
      const ended = tellMeasured(sessions, { everyMs: measureEveryMs, clock, log, write });
      const stop = () => {
        off();
        ended();
      };
      const end = () => call.end();
      signal.addEventListener('abort', end);
      call.on('close', () => signal.removeEventListener('abort', end));
      for (const event of ['cancelled', 'error', 'close'] as const) call.on(event, stop);
    },
    listSessions: unary(async () => {
      const { rows } = await sessions.list();
      return { sessions: rows.map(sessionMessage) };
    }),
    setAdminDown: unary(async ({ id, adminDown }) => {
      await sessions.setAdminDown(id, adminDown);
      return {};
    }),
    reportSteering: unary(async (steering) => heardOf(steering)),
  });
}
