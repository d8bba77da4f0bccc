// SPDX-License-Identifier: Apache-2.0
// The gRPC service Bfd: health as a stream that is written to in the very turn in which a change is told, sessions, AdminDown.

import { BfdService } from '@detour/contracts';
import { implement, type ServiceImplementation, unary } from '@detour/rpc';
import type { SessionList } from './engine.js';
import type { HealthBoard } from './health-board.js';
import { healthReport, sessionMessage } from './session-messages.js';

/** What the service needs of the sessions. */
export interface Sessions {
  list(): Promise<SessionList>;
  setAdminDown(id: string, down: boolean): Promise<void>;
}

/** `signal` ends all streams: nobody waits for a process that stops. */
export function bfdService(
  sessions: Sessions,
  board: HealthBoard,
  signal: AbortSignal,
): ServiceImplementation {
  return implement(BfdService, {
    watchHealth: (call) => {
      // Written without waiting for the reader: a change is small, and the one reader is on this machine.
      const stop = board.listen((news) => void call.write(healthReport(news)));
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
  });
}
