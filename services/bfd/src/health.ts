// SPDX-License-Identifier: Apache-2.0
// What a node's two probes together say of it: the one place where control session and echo become health.

import { bfdDiag } from '@detour/wire';
import { type Echo, echoIntervalUs } from './echo-logic.js';
import type { TcpState } from './loop-messages.js';
import { detectTimeUs, type Session } from './session-logic.js';

/** A node's health as bfd tells it; `stale` is said by those who miss bfd, never by bfd. */
export interface Health {
  readonly state: 'up' | 'down' | 'admin-down' | 'unknown';
  /** A short reason for people; '' when up. */
  readonly why: string;
}

/** What is known of a node. */
export interface Evidence {
  readonly control: Session;
  /** Null when the health profile asks for none. */
  readonly echo: Echo | null;
  /** Why no packet can be sent: device or address missing; null when they can. */
  readonly obstacle: string | null;
  /**
   * While a handshake has its time nothing was expected yet, so nothing failed: `unknown` after the start, `admin-down` after
   * AdminDown was lifted on either side; null otherwise.
   */
  readonly grace: 'unknown' | 'admin-down' | null;
  /** No BFD daemon is expected there: the control session only says what was set here. */
  readonly noControl?: true;
  /** Absent when no TCP port is asked. */
  readonly tcp?: TcpState;
}

const diagWords: Readonly<Record<number, string>> = {
  [bfdDiag.none]: 'no diagnostic',
  [bfdDiag.controlDetectionTimeExpired]: 'control detection time expired',
  [bfdDiag.echoFunctionFailed]: 'echo function failed',
  [bfdDiag.neighborSignaledSessionDown]: 'neighbor signaled session down',
  [bfdDiag.forwardingPlaneReset]: 'forwarding plane reset',
  [bfdDiag.pathDown]: 'path down',
  [bfdDiag.concatenatedPathDown]: 'concatenated path down',
  [bfdDiag.administrativelyDown]: 'administratively down',
  [bfdDiag.reverseConcatenatedPathDown]: 'reverse concatenated path down',
};

/** The words of RFC 5880 section 4.1 for a diagnostic code. */
export function describeDiag(diag: number): string {
  return diagWords[diag] ?? `reserved diagnostic ${diag}`;
}

/** One line a rule; the first that applies decides. */
export function judgeHealth(evidence: Evidence): Health {
  const { control, echo, obstacle, grace, noControl, tcp } = evidence;
  if (control.state === 'admin-down') return { state: 'admin-down', why: 'set admin-down here' };
  if (obstacle !== null) return { state: 'down', why: obstacle };
  // An echo that was there and failed speaks about forwarding, whatever the peer's daemon says.
  if (echo !== null && echo.state === 'down' && echo.diag === bfdDiag.echoFunctionFailed) {
    return { state: 'down', why: 'echo lost: the node does not forward' };
  }
  if (tcp === 'down') return { state: 'down', why: 'the TCP port does not answer' };
  if (noControl) {
    if ((echo === null || echo.state === 'up') && tcp !== 'unknown') return { state: 'up', why: '' };
    if (grace !== null) return { state: grace, why: 'first answers under way' };
    return {
      state: 'down',
      why: tcp === 'unknown' ? 'the TCP port has not been asked yet' : 'no echo has returned yet',
    };
  }
  // RFC 5882 section 3.2: AdminDown of the peer is no failure, also when it falls silent after it.
  if (control.state !== 'up' && control.remote.state === 'admin-down') {
    return { state: 'admin-down', why: 'peer says admin-down' };
  }
  if (control.state === 'up' && (echo === null || echo.state === 'up') && tcp !== 'unknown')
    return { state: 'up', why: '' };
  if (grace !== null) return { state: grace, why: 'handshake under way' };
  if (control.state === 'up' && tcp === 'unknown')
    return { state: 'down', why: 'the TCP port has not been asked yet' };
  if (control.state === 'up') return { state: 'down', why: 'no echo has returned yet' };
  if (control.diag === bfdDiag.none) return { state: 'down', why: 'peer has not answered' };
  return { state: 'down', why: describeDiag(control.diag) };
}

/** The longest that a failure can go unnoticed, microseconds; 0 while nothing was heard. */
export function noticeTimeUs(control: Session, echo: Echo | null): number {
  return Math.max(detectTimeUs(control), echo === null ? 0 : echo.timers.multiplier * echoIntervalUs(echo));
}
