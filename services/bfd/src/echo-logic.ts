// SPDX-License-Identifier: Apache-2.0

/*
 * Unaffiliated BFD echo (RFC 9747) as a pure function: packets from us to us, handed to the node, which forwards them back.
 *
 * The node's part is plain IP forwarding, so an echo that returns proves what a control session cannot: that the node still
 * forwards. The payload is a control packet with our own discriminator; the session runs the state machine of RFC 5880
 * section 6.2 against itself: the first own packet that returns makes Init, the one sent then makes Up. Until Up one packet a
 * second is sent, then one per `everyUs` (RFC 9747 section 2); a silence of `multiplier` intervals is Down with diagnostic 2.
 *
 * Allowed races: a packet sent in an earlier state may return late; in Up it counts as any other, since it did cross the node.
 * A packet of an earlier life of this process has another discriminator and is refused before it gets here.
 */

import { type BfdPacket, bfdDiag, slowTxUs } from '@detour/wire';

/** What is asked of an echo: `everyUs` microseconds between packets when Up; `multiplier` 1-255. */
export interface EchoTimers {
  readonly everyUs: number;
  readonly multiplier: number;
}

/** One echo session; times are microseconds of a monotonic clock. */
export interface Echo {
  readonly timers: EchoTimers;
  readonly discr: number;
  readonly state: 'down' | 'init' | 'up';
  readonly diag: number;
  readonly lastTxUs: number | null;
  readonly lastRxUs: number | null;
  readonly jitter: number;
  /** Of the latest packet that returned, and whose own transmission is known; null before the first. */
  readonly rttUs: number | null;
}

/** What can happen to an echo session. `returned` is our own packet, back from the node. */
export type EchoInput = { readonly nowUs: number; readonly random: number } & (
  | { readonly kind: 'returned'; readonly tookUs: number | null }
  | { readonly kind: 'tick' }
  | { readonly kind: 'timers'; readonly timers: EchoTimers }
  | { readonly kind: 'path-down' }
);

export type EchoEffect =
  | { readonly kind: 'send'; readonly packet: BfdPacket }
  | {
      readonly kind: 'changed';
      readonly from: Echo['state'];
      readonly to: Echo['state'];
      readonly diag: number;
    };

type Stepped = readonly [Echo, readonly EchoEffect[]];

/** An echo session in Down whose first packet is due at once. */
export function newEcho(timers: EchoTimers, discr: number): Echo {
  return {
    timers,
    discr,
    state: 'down',
    diag: bfdDiag.none,
    lastTxUs: null,
    lastRxUs: null,
    jitter: 0,
    rttUs: null,
  };
}

/** Microseconds between packets before jitter: slow until Up (RFC 9747 section 2). */
export function echoIntervalUs(echo: Echo): number {
  return echo.state === 'up' ? echo.timers.everyUs : Math.max(slowTxUs, echo.timers.everyUs);
}

/** When the next packet is due; jittered as control packets are (RFC 5880 section 6.8.7). */
export function nextEchoAtUs(echo: Echo): number {
  if (echo.lastTxUs === null) return Number.NEGATIVE_INFINITY;
  const widest = echo.timers.multiplier === 1 ? 0.9 : 1;
  return echo.lastTxUs + echoIntervalUs(echo) * (0.75 + echo.jitter * (widest - 0.75));
}

/** When the silence becomes a failure; null in Down. */
export function echoDetectAtUs(echo: Echo): number | null {
  if (echo.state === 'down' || echo.lastRxUs === null) return null;
  return echo.lastRxUs + echo.timers.multiplier * echoIntervalUs(echo);
}

function packetOf(echo: Echo): BfdPacket {
  return {
    diag: echo.diag,
    state: echo.state,
    poll: false,
    final: false,
    controlPlaneIndependent: false,
    demand: false,
    detectMult: echo.timers.multiplier,
    myDiscr: echo.discr,
    yourDiscr: echo.state === 'down' ? 0 : echo.discr,
    // Nobody negotiates with itself: one second is what RFC 9747 section 2 suggests to fill in.
    desiredMinTxUs: slowTxUs,
    requiredMinRxUs: slowTxUs,
    requiredMinEchoRxUs: 0,
  };
}

function sendNow(echo: Echo, input: EchoInput): Stepped {
  const sent = { ...echo, lastTxUs: input.nowUs, jitter: input.random };
  return [sent, [{ kind: 'send', packet: packetOf(sent) }]];
}

function enter(echo: Echo, to: Echo['state'], diag: number, input: EchoInput): Stepped {
  const [entered, sends] = sendNow({ ...echo, state: to, diag }, input);
  return [entered, [{ kind: 'changed', from: echo.state, to, diag }, ...sends]];
}

function returned(before: Echo, input: EchoInput, tookUs: number | null): Stepped {
  const echo = { ...before, lastRxUs: input.nowUs, rttUs: tookUs ?? before.rttUs };
  if (echo.state === 'down') return enter(echo, 'init', echo.diag, input);
  if (echo.state === 'init') return enter(echo, 'up', bfdDiag.none, input);
  return [echo, []];
}

function tick(echo: Echo, input: EchoInput): Stepped {
  const detectAt = echoDetectAtUs(echo);
  if (detectAt !== null && detectAt <= input.nowUs) {
    return enter({ ...echo, lastRxUs: null, rttUs: null }, 'down', bfdDiag.echoFunctionFailed, input);
  }
  return nextEchoAtUs(echo) <= input.nowUs ? sendNow(echo, input) : [echo, []];
}

/** Lets one thing happen to an echo session; returns it after that and what must be done. */
export function stepEcho(echo: Echo, input: EchoInput): Stepped {
  switch (input.kind) {
    case 'returned':
      return returned(echo, input, input.tookUs);
    case 'tick':
      return tick(echo, input);
    case 'timers':
      return [{ ...echo, timers: input.timers }, []];
    case 'path-down': {
      const reset: Echo = { ...newEcho(echo.timers, echo.discr), diag: bfdDiag.pathDown };
      if (echo.state === 'down') return [reset, []];
      return [reset, [{ kind: 'changed', from: echo.state, to: 'down', diag: bfdDiag.pathDown }]];
    }
  }
}
