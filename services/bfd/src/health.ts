// SPDX-License-Identifier: Apache-2.0
// What a node's probes together say of it: the one place where control session, echo, connections and routes become health.

import { bfdDiag } from '@detour/wire';
import { type Echo, echoIntervalUs } from './echo-logic.js';
import type { RouteState, TcpState } from './loop-messages.js';
import { detectTimeUs, type Session } from './session-logic.js';

/** A node's health as bfd tells it; `stale` is said by those who miss bfd, never by bfd. */
export interface Health {
  readonly state: 'up' | 'down' | 'admin-down' | 'unknown';
  /** A short reason for people; '' when up. */
  readonly why: string;
  /** Which of the node's sources decided: sessions and connections, or routes. */
  readonly source: 'bfd' | 'bgp';
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
  /** Absent when no routes are asked for. */
  readonly route?: RouteState;
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
  const { control, echo, obstacle, grace, noControl, tcp, route } = evidence;
  const say = (state: Health['state'], why: string): Health => ({ state, why, source: 'bfd' });
  if (control.state === 'admin-down') return say('admin-down', 'set admin-down here');
  if (obstacle !== null) return say('down', obstacle);
  // An echo that was there and failed speaks about forwarding, whatever the peer's daemon says.
  if (echo !== null && echo.state === 'down' && echo.diag === bfdDiag.echoFunctionFailed) {
    return say('down', 'echo lost: the node does not forward');
  }
  if (tcp === 'down') return say('down', 'the TCP port does not answer');
  const isSilent = !noControl && control.state !== 'up' && control.remote.state !== 'admin-down';
  // The node took its advertisement back. When BFD has failed too, its reason is nearer to the cause: the route went with the way to the node.
  if (route?.state === 'down' && !isSilent) return { state: 'down', why: route.why, source: 'bgp' };
  const allRead = tcp !== 'unknown' && route?.state !== 'unknown';
  if (noControl) {
    const source = echo === null && tcp === undefined && route !== undefined ? 'bgp' : 'bfd';
    if ((echo === null || echo.state === 'up') && allRead) return { state: 'up', why: '', source };
    if (grace !== null) return say(grace, 'first answers under way');
    return say('down', allRead ? 'no echo has returned yet' : unread(evidence));
  }
  // RFC 5882 section 3.2: AdminDown of the peer is no failure, also when it falls silent after it.
  if (control.state !== 'up' && control.remote.state === 'admin-down') {
    return say('admin-down', 'peer says admin-down');
  }
  if (control.state === 'up' && (echo === null || echo.state === 'up') && allRead) return say('up', '');
  if (grace !== null) return say(grace, 'handshake under way');
  if (control.state === 'up') return say('down', allRead ? 'no echo has returned yet' : unread(evidence));
  if (control.diag === bfdDiag.none) return say('down', 'peer has not answered');
  return say('down', describeDiag(control.diag));
}

function unread({ tcp }: Evidence): string {
  return tcp === 'unknown'
    ? 'the TCP port has not been asked yet'
    : 'the routing table has not been read yet';
}

/** The longest that a failure can go unnoticed, microseconds; 0 while nothing was heard. */
export function noticeTimeUs(control: Session, echo: Echo | null): number {
  return Math.max(detectTimeUs(control), echo === null ? 0 : echo.timers.multiplier * echoIntervalUs(echo));
}
