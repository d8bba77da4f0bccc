// SPDX-License-Identifier: Apache-2.0
// What a session row shows of the two logics, in the row's words.
import { type Echo, echoIntervalUs } from './echo-logic.js';
import type { SessionRow } from './loop-messages.js';
import { detectTimeUs, type Session, txIntervalUs } from './session-logic.js';

export function sessionFigures(
  control: Session,
  echo: Echo | null,
): Omit<
  SessionRow,
  | 'spec'
  | 'health'
  | 'route'
  | 'packetsIn'
  | 'packetsOut'
  | 'echoIn'
  | 'echoOut'
  | 'sendErrors'
  | 'ups'
  | 'downs'
> {
  return {
    state: control.state,
    remoteState: control.remote.state,
    localDiscr: control.localDiscr,
    remoteDiscr: control.remote.discr,
    diag: control.diag,
    remoteDiag: control.remote.diag,
    txIntervalUs: txIntervalUs(control),
    remoteMinRxUs: control.remote.minRxUs,
    remoteMinTxUs: control.remote.minTxUs,
    remoteDetectMult: control.remote.detectMult,
    detectTimeUs: detectTimeUs(control),
    echoState: echo?.state ?? null,
    echoDetectTimeUs: echo === null ? 0 : echo.timers.multiplier * echoIntervalUs(echo),
    echoRttUs: echo?.rttUs ?? null,
  };
}
