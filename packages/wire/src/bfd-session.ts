// SPDX-License-Identifier: Apache-2.0

/*
 * One BFD session in asynchronous mode (RFC 5880, RFC 5881), as a pure function: `step(session, input) → [session, effects]`.
 *
 * Ownership: a `Session` is an immutable value; the loop keeps the latest one, feeds it packets, ticks and
 * orders, and performs the effects. Time and chance come in with the input (`nowUs` of a monotonic clock, `random` in
 * [0, 1)), so a test turns the clock by hand. Timers are not effects: they follow from the value (`nextTxAtUs`,
 * `detectAtUs`), and a `tick` at or after such a time does what is due.
 *
 * Order within a tick: detection first, then transmission, so that a packet sent at the same instant already tells the
 * new state. The loop reads all received packets before it ticks: a process that was held up must not mistake its own
 * delay for silence of the peer.
 *
 * What is chosen where the RFC leaves a choice: always the active role; never demand mode of our own (that of the peer is
 * honoured); no affiliated echo (Required Min Echo RX is 0; unaffiliated echo has a logic of its own); every
 * change of state is told at once instead of with the next periodic packet (section 6.8.7); Poll Sequences are run in Up
 * only, because outside Up every packet carries the new values and nothing waits for their acknowledgement.
 *
 * RFC 5880: 6.2 state machine, 6.5 polls, 6.6 demand, 6.8.1 variables, 6.8.2-6.8.4 timers, 6.8.6 reception, 6.8.7
 * transmission, 6.8.16 administrative control. The discard rules of 6.8.6 that need one packet only are in bfd.ts; those
 * that need the table of sessions are the loop's.
 */

import { type BfdPacket, type BfdState, bfdDiag } from './bfd.js';

/** The least interval between packets of a session that is not Up, microseconds (RFC 5880 section 6.8.3). */
export const slowTxUs = 1_000_000;

/** What the operator asks of a session; microseconds, each at least 1; `detectMult` 1-255. */
export interface SessionTimers {
  readonly desiredMinTxUs: number;
  readonly requiredMinRxUs: number;
  readonly detectMult: number;
}

/** What the last packet of the peer said (the bfd.Remote variables of RFC 5880 section 6.8.1). */
export interface RemoteView {
  readonly discr: number;
  readonly state: BfdState;
  readonly diag: number;
  readonly demand: boolean;
  readonly detectMult: number;
  readonly minTxUs: number;
  readonly minRxUs: number;
}

/** One session; times are microseconds of a monotonic clock. */
export interface Session {
  readonly timers: SessionTimers;
  readonly localDiscr: number;
  readonly state: BfdState;
  readonly diag: number;
  readonly remote: RemoteView;
  /** `again`: values changed during a poll, so another one follows it. */
  readonly poll: 'idle' | 'active' | 'again';
  /** The transmit interval in force; an increase waits here for its poll (RFC 5880 section 6.8.3). */
  readonly activeMinTxUs: number;
  /** The receive interval in force for detection; a decrease waits here for its poll. */
  readonly activeMinRxUs: number;
  readonly lastTxUs: number | null;
  /** When the last valid packet came; null if none since the peer was last forgotten. */
  readonly lastRxUs: number | null;
  /** The chance taken for the interval that runs now, [0, 1). */
  readonly jitter: number;
}

interface At {
  readonly nowUs: number;
  readonly random: number;
}
/** What can happen to a session. */
export type SessionInput = At &
  (
    | { readonly kind: 'packet'; readonly packet: BfdPacket }
    | { readonly kind: 'tick' }
    | { readonly kind: 'timers'; readonly timers: SessionTimers }
    | { readonly kind: 'admin'; readonly down: boolean }
    /** The way to the peer is gone: device or local address vanished. */
    | { readonly kind: 'path-down' }
  );

/** What the loop must do: send this packet, or take note of a change of state. */
export type SessionEffect =
  | { readonly kind: 'send'; readonly packet: BfdPacket }
  | { readonly kind: 'changed'; readonly from: BfdState; readonly to: BfdState; readonly diag: number };

type Stepped = readonly [Session, readonly SessionEffect[]];

// RFC 5880 section 6.8.1: the initial values of the bfd.Remote variables.
const unheard: RemoteView = {
  discr: 0,
  state: 'down',
  diag: 0,
  demand: false,
  detectMult: 0,
  minTxUs: 0,
  minRxUs: 1,
};

/** A session in Down that has sent nothing; its first packet is due at once. `localDiscr`: unique, random, not zero. */
export function newSession(timers: SessionTimers, localDiscr: number): Session {
  return {
    timers,
    localDiscr,
    state: 'down',
    diag: bfdDiag.none,
    remote: unheard,
    poll: 'idle',
    activeMinTxUs: Math.max(timers.desiredMinTxUs, slowTxUs),
    activeMinRxUs: timers.requiredMinRxUs,
    lastTxUs: null,
    lastRxUs: null,
    jitter: 0,
  };
}

/** bfd.DesiredMinTxInterval: what is told to the peer, not yet what is in force; microseconds. */
export function desiredMinTxUs(session: Session): number {
  if (session.state === 'up') return session.timers.desiredMinTxUs;
  return Math.max(session.timers.desiredMinTxUs, slowTxUs); // RFC 5880 section 6.8.3
}

/** The negotiated transmit interval before jitter, microseconds (RFC 5880 section 6.8.2). */
export function txIntervalUs(session: Session): number {
  return Math.max(session.activeMinTxUs, session.remote.minRxUs);
}

/** How long the peer may be silent, microseconds (RFC 5880 section 6.8.4); 0 while nothing was heard of it. */
export function detectTimeUs(session: Session): number {
  return session.remote.detectMult * Math.max(session.activeMinRxUs, session.remote.minTxUs);
}

/** When the next periodic packet is due; null when none may be sent (RFC 5880 section 6.8.7). */
export function nextTxAtUs(session: Session): number | null {
  const { remote } = session;
  if (remote.minRxUs === 0) return null;
  const bothUp = session.state === 'up' && remote.state === 'up';
  if (remote.demand && bothUp && session.poll === 'idle') return null; // section 6.6
  if (session.lastTxUs === null) return Number.NEGATIVE_INFINITY;
  // Section 6.8.7: reduced by 0-25 % at random; to no more than 90 % when one loss is already too many.
  const widest = session.timers.detectMult === 1 ? 0.9 : 1;
  return session.lastTxUs + txIntervalUs(session) * (0.75 + session.jitter * (widest - 0.75));
}

/** When the peer's silence becomes a failure; null while nothing was heard of it. */
export function detectAtUs(session: Session): number | null {
  return session.lastRxUs === null ? null : session.lastRxUs + detectTimeUs(session);
}

function packetOf(session: Session, mark: 'periodic' | 'final'): BfdPacket {
  return {
    diag: session.diag,
    state: session.state,
    poll: mark === 'periodic' && session.poll !== 'idle',
    final: mark === 'final',
    controlPlaneIndependent: false,
    demand: false,
    detectMult: session.timers.detectMult,
    myDiscr: session.localDiscr,
    yourDiscr: session.remote.discr,
    desiredMinTxUs: desiredMinTxUs(session),
    requiredMinRxUs: session.timers.requiredMinRxUs,
    requiredMinEchoRxUs: 0,
  };
}

function sendNow(session: Session, at: At): Stepped {
  const sent = { ...session, lastTxUs: at.nowUs, jitter: at.random };
  return [sent, [{ kind: 'send', packet: packetOf(sent, 'periodic') }]];
}

/** Brings the intervals in force in line with the wanted ones, by a poll where the peer must first agree. */
function applyTimers(session: Session): Session {
  const wantedTx = desiredMinTxUs(session);
  const wantedRx = session.timers.requiredMinRxUs;
  if (session.state !== 'up')
    return { ...session, poll: 'idle', activeMinTxUs: wantedTx, activeMinRxUs: wantedRx };
  return {
    ...session,
    poll: session.poll === 'idle' ? 'active' : 'again',
    activeMinTxUs: Math.min(session.activeMinTxUs, wantedTx), // section 6.8.3: an increase waits for the poll
    activeMinRxUs: Math.max(session.activeMinRxUs, wantedRx), // and so does a decrease of this one
  };
}

/** Enters another state, and tells the peer at once (section 6.8.7). */
function enter(session: Session, to: BfdState, diag: number, at: At): Stepped {
  const from = session.state;
  const [entered, sends] = sendNow(applyTimers({ ...session, state: to, diag }), at);
  return [entered, [{ kind: 'changed', from, to, diag }, ...sends]];
}

// RFC 5880 section 6.2: [our state][state received] → our next state. AdminDown received means Down for us.
const transitions: Record<'down' | 'init' | 'up', Record<BfdState, 'down' | 'init' | 'up'>> = {
  down: { 'admin-down': 'down', down: 'init', init: 'up', up: 'down' },
  init: { 'admin-down': 'down', down: 'init', init: 'up', up: 'up' },
  up: { 'admin-down': 'down', down: 'down', init: 'up', up: 'up' },
};

function pollAnswered(session: Session): Session {
  if (session.poll === 'again') return { ...session, poll: 'active' };
  return {
    ...session,
    poll: 'idle',
    activeMinTxUs: desiredMinTxUs(session),
    activeMinRxUs: session.timers.requiredMinRxUs,
  };
}

function receive(before: Session, packet: BfdPacket, at: At): Stepped {
  // RFC 5880 section 6.8.6, from "Set bfd.RemoteDiscr" on.
  let session: Session = {
    ...before,
    lastRxUs: at.nowUs,
    remote: {
      discr: packet.myDiscr,
      state: packet.state,
      diag: packet.diag,
      demand: packet.demand,
      detectMult: packet.detectMult,
      minTxUs: packet.desiredMinTxUs,
      minRxUs: packet.requiredMinRxUs,
    },
  };
  if (packet.final && session.poll !== 'idle') session = pollAnswered(session);
  if (session.state === 'admin-down') return [session, []];
  const effects: SessionEffect[] = [];
  const to = transitions[session.state][packet.state];
  if (to !== session.state) {
    const diag =
      to === 'down' ? bfdDiag.neighborSignaledSessionDown : to === 'up' ? bfdDiag.none : session.diag;
    const [entered, entering] = enter(session, to, diag, at);
    session = entered;
    effects.push(...entering);
  }
  // The answer to a poll goes out beside the periodic ones and never carries both bits (section 6.5).
  if (packet.poll) effects.push({ kind: 'send', packet: packetOf(session, 'final') });
  return [session, effects];
}

/** Section 6.8.1: bfd.RemoteDiscr goes to zero. That the peer had said AdminDown is kept: its silence was announced. */
function forgetPeer(session: Session): Session {
  const state = session.remote.state === 'admin-down' ? 'admin-down' : 'down';
  return { ...session, remote: { ...unheard, state }, lastRxUs: null };
}

function tick(before: Session, at: At): Stepped {
  let session = before;
  const effects: SessionEffect[] = [];
  const detectAt = detectAtUs(session);
  if (detectAt !== null && detectAt <= at.nowUs) {
    session = forgetPeer(session);
    if (session.state === 'init' || session.state === 'up') {
      const [entered, entering] = enter(session, 'down', bfdDiag.controlDetectionTimeExpired, at);
      session = entered;
      effects.push(...entering);
    }
  }
  const nextTx = nextTxAtUs(session);
  if (nextTx === null || nextTx > at.nowUs) return [session, effects];
  const [sent, sends] = sendNow(session, at);
  return [sent, [...effects, ...sends]];
}

function setAdmin(session: Session, down: boolean, at: At): Stepped {
  if (down === (session.state === 'admin-down')) return [session, []];
  // Section 6.8.16. Packets go on, slowly, so that the peer keeps telling this from a failure.
  return down
    ? enter(session, 'admin-down', bfdDiag.administrativelyDown, at)
    : enter(session, 'down', bfdDiag.none, at);
}

function setTimers(session: Session, timers: SessionTimers, at: At): Stepped {
  const old = session.timers;
  const same = old.desiredMinTxUs === timers.desiredMinTxUs && old.requiredMinRxUs === timers.requiredMinRxUs;
  if (same && old.detectMult === timers.detectMult) return [session, []];
  return sendNow(same ? { ...session, timers } : applyTimers({ ...session, timers }), at);
}

/** Lets one thing happen to a session; returns the session after it and what must be done. */
export function step(session: Session, input: SessionInput): Stepped {
  switch (input.kind) {
    case 'packet':
      return receive(session, input.packet, input);
    case 'tick':
      return tick(session, input);
    case 'timers':
      return setTimers(session, input.timers, input);
    case 'admin':
      return setAdmin(session, input.down, input);
    case 'path-down': {
      const forgotten = forgetPeer(session);
      if (session.state === 'down' || session.state === 'admin-down') return [forgotten, []];
      return enter(forgotten, 'down', bfdDiag.pathDown, input);
    }
  }
}
