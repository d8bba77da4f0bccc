// SPDX-License-Identifier: Apache-2.0

/*
 * One session as the timing loop runs it: the pure logics (control, echo) with their sockets, counters and way to the peer.
 *
 * Ownership: the loop owns the listeners and the clock and calls in; this owns the session's way out and both logic values.
 * A session lives from the order that names it to the order that does not; its device may come and go meanwhile (`attach`). While
 * there is no way to the peer the logics keep their time but nothing is sent, and health says why.
 */

import {
  type BfdPacket,
  detectAtUs,
  ipToBytes,
  newSession,
  nextTxAtUs,
  type Session,
  type SessionInput,
  slowTxUs,
  step,
} from '@detour/wire';
import { type Echo, type EchoInput, echoDetectAtUs, newEcho, nextEchoAtUs, stepEcho } from './echo-logic.js';
import { evidenceFound, routeFound } from './findings.js';
import { type Health, judgeHealth, noticeTimeUs } from './health.js';
import type {
  Findings,
  HealthRow,
  LoopReport,
  MeasuredRow,
  SessionRow,
  SessionSpec,
} from './loop-messages.js';
import type { NetworkView } from './network-view.js';
import { sessionFigures } from './session-figures.js';
import { pathKey } from './session-table.js';
import { SessionWay, type SharedSockets } from './session-way.js';

type Report = (report: LoopReport) => void;
/** Omit that keeps a union a union. */
type Bare<T> = T extends unknown ? Omit<T, 'nowUs' | 'random'> : never;

/** What a session borrows from its loop. */
export interface Surroundings extends SharedSockets {
  readonly report: Report;
  readonly random: () => number;
}

/** A session with its sockets. */
export class RunningSession {
  spec: SessionSpec;
  control: Session;
  echo: Echo | null;
  /** As the main thread last said it. */
  findings: Findings = {};
  readonly #around: Surroundings;
  readonly #way: SessionWay;
  #grace: { readonly untilUs: number; readonly state: 'unknown' | 'admin-down' } | null;
  #obstacle: string | null = 'device and address not looked for yet';
  #told: Health | null = null;
  readonly #counts = { packetsIn: 0, packetsOut: 0, echoIn: 0, echoOut: 0, sendErrors: 0, ups: 0, downs: 0 };

  constructor(
    spec: SessionSpec,
    discrs: readonly [control: number, echo: number],
    nowUs: number,
    around: Surroundings,
  ) {
    this.spec = spec;
    this.control = newSession(spec.timers, discrs[0]);
    this.echo = spec.echo === null ? null : newEcho(spec.echo, discrs[1]);
    this.#around = around;
    this.#way = new SessionWay(around);
    this.#grace = { untilUs: nowUs + this.#handshakeUs(), state: 'unknown' };
  }

  /** The key under which packets of the peer arrive; null while there is no way to it. */
  get path(): string | null {
    const { ifindex } = this;
    if (ifindex === null) return null;
    const { hears, multihop } = this.spec;
    return pathKey(
      ifindex,
      Buffer.from(ipToBytes(hears)).toString('hex'),
      multihop === null ? 'single' : 'multi',
    );
  }

  get ifindex(): number | null {
    return this.#way.ifindex;
  }

  /** When this session must be called again. */
  nextAtUs(): number {
    let next = detectAtUs(this.control) ?? Number.POSITIVE_INFINITY;
    if (this.#grace !== null) next = Math.min(next, this.#grace.untilUs);
    if (this.ifindex === null) return next;
    next = Math.min(next, nextTxAtUs(this.control) ?? Number.POSITIVE_INFINITY);
    if (this.#echoing()) {
      const { echo } = this;
      if (echo !== null)
        next = Math.min(next, nextEchoAtUs(echo), echoDetectAtUs(echo) ?? Number.POSITIVE_INFINITY);
    }
    return next;
  }

  /** Finds or loses the way to the peer, as the kernel's devices and addresses say. @returns whether `path` may have changed */
  attach(network: NetworkView, nowUs: number): boolean {
    const device = network.device(this.spec.device);
    this.#way.mac = device === undefined ? null : network.macOf(device, this.spec.peer);
    const obstacle = network.obstacleTo(this.spec.device, this.spec.local);
    if (device !== undefined && obstacle === null) {
      if (this.ifindex === device.ifindex) return false;
      this.#way.close();
      this.#obstacle = this.#way.open(this.spec, device.ifindex);
      return true;
    }
    this.#obstacle = obstacle;
    if (this.ifindex === null) return false;
    this.#way.close();
    this.#stepControl({ kind: 'path-down' }, nowUs);
    this.#stepEcho({ kind: 'path-down' }, nowUs);
    return true;
  }

  /** Takes other timers, or echo asked for or no longer; addresses and device never change in place. */
  retime(spec: SessionSpec, echoDiscr: number, nowUs: number): void {
    this.spec = spec;
    this.#stepControl({ kind: 'timers', timers: spec.timers }, nowUs);
    if (spec.echo === null) this.echo = null;
    else if (this.echo === null) this.echo = newEcho(spec.echo, echoDiscr);
    else this.#stepEcho({ kind: 'timers', timers: spec.echo }, nowUs);
  }

  hearControl(packet: BfdPacket, nowUs: number): void {
    this.#counts.packetsIn += 1;
    this.#stepControl({ kind: 'packet', packet }, nowUs);
  }

  /** `probe`: the number that it carries. */
  hearEcho(probe: number, nowUs: number): void {
    if (!this.#echoing()) return;
    this.#counts.echoIn += 1;
    this.#stepEcho({ kind: 'returned', tookUs: this.#way.probes.came(probe, nowUs) }, nowUs);
  }

  /** The other end of two on this machine heard a packet of this one. */
  heardBeyond(probe: number, nowUs: number): void {
    this.#way.probes.came(probe, nowUs);
  }

  /** What packets through the node measured since the last call; null when nothing was, or the node is not up. */
  measure(nowUs: number): MeasuredRow | null {
    const { node, vrf, end } = this.spec;
    const figures = this.#way.probes.take(nowUs);
    return figures === null || this.#judge(nowUs).state !== 'up' ? null : { node, vrf, end, ...figures };
  }

  setAdminDown(down: boolean, nowUs: number): void {
    if (down === (this.control.state === 'admin-down')) return;
    this.#stepControl({ kind: 'admin', down }, nowUs);
    // What the echo knew is old when it starts again.
    if (this.echo !== null) this.echo = newEcho(this.echo.timers, this.echo.discr);
    this.#way.probes.forget();
  }

  /** Does what is due. */
  tick(nowUs: number): void {
    this.#stepControl({ kind: 'tick' }, nowUs);
    if (this.#echoing()) this.#stepEcho({ kind: 'tick' }, nowUs);
  }

  // Without a MAC address nothing can go out, but an echo that was up still fails in time.
  #echoing(): boolean {
    if (this.echo === null || this.ifindex === null || this.control.state === 'admin-down') return false;
    return this.#way.mac !== null || this.echo.state !== 'down';
  }

  // The handshake takes up to two slow intervals; after a detection time at that rate silence is an answer.
  #handshakeUs(): number {
    return Math.max(3, this.spec.timers.detectMult) * slowTxUs;
  }

  #isAdminDown(): boolean {
    return this.control.state === 'admin-down' || this.control.remote.state === 'admin-down';
  }

  #stepControl(input: Bare<SessionInput>, nowUs: number): void {
    const wasAdminDown = this.#isAdminDown();
    const [session, effects] = step(this.control, { ...input, nowUs, random: this.#around.random() });
    this.control = session;
    if (wasAdminDown && !this.#isAdminDown()) {
      this.#grace = { untilUs: nowUs + this.#handshakeUs(), state: 'admin-down' };
    }
    for (const effect of effects) {
      if (effect.kind === 'send') this.#sendControl(effect.packet, nowUs);
      else {
        // What was measured in another state is of another time.
        if (this.spec.end !== null) this.#way.probes.forget();
        this.#around.report({ ...effect, kind: 'event', id: this.spec.id, probe: 'control' });
      }
    }
  }

  #stepEcho(input: Bare<EchoInput>, nowUs: number): void {
    if (this.echo === null) return;
    const [echo, effects] = stepEcho(this.echo, { ...input, nowUs, random: this.#around.random() });
    this.echo = echo;
    for (const effect of effects) {
      if (effect.kind === 'send') this.#sendEcho(effect.packet, nowUs);
      else {
        this.#way.probes.forget();
        this.#around.report({ ...effect, kind: 'event', id: this.spec.id, probe: 'echo' });
      }
    }
  }

  #sendControl(packet: BfdPacket, nowUs: number): void {
    if (this.ifindex === null || this.spec.noControl) return;
    const failed = this.#way.sendControl(this.spec, packet, nowUs);
    if (failed === null) this.#counts.packetsOut += 1;
    else this.#counts.sendErrors += 1;
  }

  #sendEcho(packet: BfdPacket, nowUs: number): void {
    if (this.ifindex === null || this.#way.mac === null) return;
    const failed = this.#way.sendEcho(this.spec, packet, nowUs);
    if (failed === null) this.#counts.echoOut += 1;
    else this.#counts.sendErrors += 1;
  }

  #judge(nowUs: number): Health {
    if (this.#grace !== null && nowUs >= this.#grace.untilUs) this.#grace = null;
    const { control, echo } = this;
    const health = judgeHealth({
      control,
      echo,
      obstacle: this.#obstacle,
      grace: this.#grace?.state ?? null,
      ...evidenceFound(this.spec, this.findings),
    });
    if (health.state === 'up') this.#grace = null;
    return health;
  }

  /** The health, if it is not what was told before. */
  healthChange(nowUs: number): HealthRow | null {
    const health = this.#judge(nowUs);
    if (this.#told?.state === health.state && this.#told.why === health.why) return null;
    if (health.state === 'up') {
      this.#counts.ups += 1;
    } else if (this.#told?.state === 'up') this.#counts.downs += 1;
    this.#told = health;
    return this.healthRow(nowUs);
  }

  healthRow(nowUs: number): HealthRow {
    const { id, node, vrf, end } = this.spec;
    const atMonoNs = BigInt(Math.round(nowUs)) * 1000n;
    return {
      ...this.#judge(nowUs),
      id,
      node,
      vrf,
      end,
      atMonoNs,
      detectTimeUs: noticeTimeUs(this.control, this.echo),
    };
  }

  row(nowUs: number): SessionRow {
    const { control, echo, spec } = this;
    const route = routeFound(spec, this.findings);
    return { spec, ...sessionFigures(control, echo), ...this.#counts, route, health: this.#judge(nowUs) };
  }

  /** Says AdminDown once, so that the peer knows that this is no failure, and closes. */
  close(nowUs: number): void {
    this.#stepControl({ kind: 'admin', down: true }, nowUs);
    this.#way.close();
  }
}
