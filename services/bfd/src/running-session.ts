// SPDX-License-Identifier: Apache-2.0

/*
 * One session as the timing loop runs it: the pure logics (control, echo) with their sockets, counters and way to the peer.
 *
 * Ownership: the loop owns the listeners and the clock and calls in; this owns the session's sending socket and both logic values.
 * A session lives from the order that names it to the order that does not; its device may come and go meanwhile (`attach`). While
 * there is no way to the peer the logics keep their time but nothing is sent, and health says why.
 */

import { Fault } from '@detour/core';
import {
  type BfdPacket,
  bfdEchoPort,
  bfdMultihopPort,
  encodeBfdPacket,
  ipToBytes,
  macToBytes,
} from '@detour/wire';
import { ControlSender } from './control-socket.js';
import { type Echo, type EchoInput, echoDetectAtUs, newEcho, nextEchoAtUs, stepEcho } from './echo-logic.js';
import { sendRaw } from './echo-socket.js';
import { evidenceFound, routeFound } from './findings.js';
import { type Health, judgeHealth, noticeTimeUs } from './health.js';
import type { Findings, HealthRow, LoopReport, SessionRow, SessionSpec } from './loop-messages.js';
import type { NetworkView } from './network-view.js';
import { sessionFigures } from './session-figures.js';
import {
  detectAtUs,
  newSession,
  nextTxAtUs,
  type Session,
  type SessionInput,
  slowTxUs,
  step,
} from './session-logic.js';
import { pathKey } from './session-table.js';

type Report = (report: LoopReport) => void;
/** Omit that keeps a union a union. */
type Bare<T> = T extends unknown ? Omit<T, 'nowUs' | 'random'> : never;

interface Attachment {
  readonly ifindex: number;
  readonly sender: ControlSender;
}

/** What a session borrows from its loop. */
export interface Surroundings {
  readonly report: Report;
  readonly takePort: () => number;
  readonly echoFd: number;
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
  readonly #bytes = new Uint8Array(24);
  #grace: { readonly untilUs: number; readonly state: 'unknown' | 'admin-down' } | null;
  #attachment: Attachment | null = null;
  #obstacle: string | null = 'device and address not looked for yet';
  #mac: string | null = null;
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
    this.#grace = { untilUs: nowUs + this.#handshakeUs(), state: 'unknown' };
  }

  /** The key under which packets of the peer arrive; null while there is no way to it. */
  get path(): string | null {
    if (this.#attachment === null) return null;
    const { hears, multihop } = this.spec;
    return pathKey(
      this.#attachment.ifindex,
      Buffer.from(ipToBytes(hears)).toString('hex'),
      multihop === null ? 'single' : 'multi',
    );
  }

  get ifindex(): number | null {
    return this.#attachment?.ifindex ?? null;
  }

  /** When this session must be called again. */
  nextAtUs(): number {
    let next = detectAtUs(this.control) ?? Number.POSITIVE_INFINITY;
    if (this.#grace !== null) next = Math.min(next, this.#grace.untilUs);
    if (this.#attachment === null) return next;
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
    this.#mac = device === undefined ? null : network.macOf(device, this.spec.peer);
    const obstacle = network.obstacleTo(this.spec.device, this.spec.local);
    if (device !== undefined && obstacle === null) {
      if (this.#attachment?.ifindex === device.ifindex) return false;
      this.#detach();
      this.#obstacle = this.#open(device.ifindex);
      return true;
    }
    this.#obstacle = obstacle;
    if (this.#attachment === null) return false;
    this.#detach();
    this.#stepControl({ kind: 'path-down' }, nowUs);
    this.#stepEcho({ kind: 'path-down' }, nowUs);
    return true;
  }

  #open(ifindex: number): string | null {
    const { device, local, peer } = this.spec;
    try {
      const path = { device, ifindex, local: ipToBytes(local), peer: ipToBytes(peer) };
      this.#attachment = { ifindex, sender: ControlSender.open(path, this.#around.takePort) };
      return null;
    } catch (error) {
      if (error instanceof Fault) return error.detail;
      throw error;
    }
  }

  #detach(): void {
    this.#attachment?.sender.close();
    this.#attachment = null;
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

  hearEcho(nowUs: number): void {
    if (!this.#echoing()) return;
    this.#counts.echoIn += 1;
    this.#stepEcho({ kind: 'returned' }, nowUs);
  }

  setAdminDown(down: boolean, nowUs: number): void {
    if (down === (this.control.state === 'admin-down')) return;
    this.#stepControl({ kind: 'admin', down }, nowUs);
    // What the echo knew is old when it starts again.
    if (this.echo !== null) this.echo = newEcho(this.echo.timers, this.echo.discr);
  }

  /** Does what is due. */
  tick(nowUs: number): void {
    this.#stepControl({ kind: 'tick' }, nowUs);
    if (this.#echoing()) this.#stepEcho({ kind: 'tick' }, nowUs);
  }

  // Without a MAC address nothing can go out, but an echo that was up still fails in time.
  #echoing(): boolean {
    if (this.echo === null || this.#attachment === null || this.control.state === 'admin-down') return false;
    return this.#mac !== null || this.echo.state !== 'down';
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
      if (effect.kind === 'send') this.#sendControl(effect.packet);
      else this.#around.report({ ...effect, kind: 'event', id: this.spec.id, probe: 'control' });
    }
  }

  #stepEcho(input: Bare<EchoInput>, nowUs: number): void {
    if (this.echo === null) return;
    const [echo, effects] = stepEcho(this.echo, { ...input, nowUs, random: this.#around.random() });
    this.echo = echo;
    for (const effect of effects) {
      if (effect.kind === 'send') this.#sendEcho(effect.packet);
      else this.#around.report({ ...effect, kind: 'event', id: this.spec.id, probe: 'echo' });
    }
  }

  #sendControl(packet: BfdPacket): void {
    if (this.#attachment === null || this.spec.noControl) return;
    const { multihop } = this.spec;
    const bytes = encodeBfdPacket(packet, this.#bytes);
    const failed =
      multihop === null
        ? this.#attachment.sender.send(bytes)
        : this.#sendFar(multihop.to, bfdMultihopPort, bytes);
    if (failed === null) this.#counts.packetsOut += 1;
    else this.#counts.sendErrors += 1;
  }

  #sendEcho(packet: BfdPacket): void {
    if (this.#attachment === null || this.#mac === null) return;
    const failed = this.#sendFar(this.spec.local, bfdEchoPort, encodeBfdPacket(packet, this.#bytes));
    if (failed === null) this.#counts.echoOut += 1;
    else this.#counts.sendErrors += 1;
  }

  /** To an address of ours, by way of the peer: the kernel would keep such a packet on the machine. */
  #sendFar(to: string, dstPort: number, bytes: Uint8Array): string | null {
    if (this.#attachment === null || this.#mac === null) return 'EHOSTUNREACH';
    const { ifindex, sender } = this.#attachment;
    const way = { ifindex, mac: macToBytes(this.#mac), local: this.spec.local, srcPort: sender.port };
    return sendRaw(this.#around.echoFd, { ...way, to, dstPort }, bytes);
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
    this.#detach();
  }
}
