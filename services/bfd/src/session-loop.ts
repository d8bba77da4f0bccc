// SPDX-License-Identifier: Apache-2.0

/*
 * The timing loop: waits for packets, kernel events, orders and deadlines in one ppoll, and turns them into steps of the sessions.
 *
 * It blocks its thread, so it runs on a worker thread of its own; gRPC and NATS work of the main thread cannot delay a packet.
 * Order of a round: kernel events, packets, orders, then deadlines. Packets come before deadlines, so that a thread that was held up
 * does not take its own delay for the peer's silence. Reading is bounded a round, and every round ends with due transmissions.
 */

import { randomInt } from 'node:crypto';
import { bfdControlPort, bfdMultihopPort, parseBfdPacket } from '@detour/wire';
import { type ControlArrival, openListener, readControl } from './control-socket.js';
import { DeadlineHeap } from './deadline-heap.js';
import {
  type EchoArrival,
  type EchoParse,
  openEchoReceiver,
  openEchoSender,
  readEchoes,
} from './echo-socket.js';
import { C, lastFault, libc } from './libc.js';
import { answerAbout, otherEnd } from './loop-answers.js';
import type { Findings, HealthRow, LoopOrder, LoopReport, SessionSpec } from './loop-messages.js';
import { nowUs } from './monotonic.js';
import { NetworkView } from './network-view.js';
import { PollSet } from './poll-set.js';
import { probeNumber } from './probe-log.js';
import { ReceiveBatch } from './receive-batch.js';
import { RunningSession, type Surroundings } from './running-session.js';
import { type Hops, pathKey, SessionTable, samePath } from './session-table.js';

const firstPort = 49_152; // RFC 5881 section 4: source ports 49152-65535
const ports = 65_536 - firstPort;
const batchSlots = 64;
const batchesPerRound = 16;
/** A missing device or address is looked for anew this often, beside the kernel's own events. */
const reattachEveryUs = 1_000_000;

/** How the loop reaches its surroundings. */
export interface LoopPorts {
  /** The next order, or undefined; must not wait. */
  readonly takeOrder: () => LoopOrder | undefined;
  readonly report: (report: LoopReport) => void;
}

/** All sessions of one process. */
export class SessionLoop {
  /** Writing eight bytes here (eventfd(2)) ends the loop's waiting. */
  readonly wakeFd: number;
  readonly #ports: LoopPorts;
  readonly #sessions = new Map<string, RunningSession>();
  readonly #echoDiscrs = new Map<number, RunningSession>();
  readonly #table = new SessionTable();
  readonly #deadlines = new DeadlineHeap<RunningSession>();
  readonly #network: NetworkView;
  readonly #listeners: readonly number[];
  readonly #echoReceivers: readonly number[];
  readonly #around: Surroundings;
  readonly #batch = new ReceiveBatch(batchSlots);
  readonly #refused = new Map<string, number>();
  readonly #adminDown = new Set<string>();
  #wanted: Extract<LoopOrder, { kind: 'sessions' }> | null = null;
  #nextPort = randomInt(ports);
  #reattachAtUs = 0;
  readonly #found = new Map<string, Findings>();
  #changed: HealthRow[] = [];
  #stopped = false;

  /** Opens all shared sockets. @throws Fault when port 3784 is taken, rights are missing, … */
  constructor(loopPorts: LoopPorts) {
    this.#ports = loopPorts;
    this.wakeFd = libc().eventfd(0, C.EFD_CLOEXEC | C.EFD_NONBLOCK);
    if (this.wakeFd < 0) throw lastFault('eventfd');
    this.#network = NetworkView.open();
    this.#listeners = [bfdControlPort, bfdMultihopPort].flatMap((port) => [
      openListener(4, port),
      openListener(6, port),
    ]);
    this.#echoReceivers = [openEchoReceiver(4), openEchoReceiver(6)];
    this.#around = {
      report: loopPorts.report,
      takePort: () => firstPort + (this.#nextPort++ % ports),
      echoFd: openEchoSender(),
      random: Math.random,
    };
  }

  /** Runs until the order `stop`; blocks the thread. */
  run(): void {
    const fds = [this.#network.fd, ...this.#listeners, ...this.#echoReceivers, this.wakeFd];
    const poll = new PollSet(fds);
    while (!this.#stopped) {
      const next = Math.min(this.#deadlines.next, this.#reattachAtUs);
      poll.wait(Math.min(next - nowUs(), 1e6));
      if (poll.ready(0) && this.#network.read()) this.#reattachAtUs = 0;
      this.#reconcile();
      this.#listeners.forEach((fd, i) => {
        if (poll.ready(1 + i)) this.#readControl(fd, i < 2 ? 'single' : 'multi');
      });
      this.#echoReceivers.forEach((fd, i) => {
        if (poll.ready(1 + this.#listeners.length + i)) this.#readEchoes(fd);
      });
      if (poll.ready(fds.length - 1)) this.#takeOrders();
      this.#runDeadlines();
      this.#flush();
    }
    this.#close(fds);
  }

  #refuse(why: string | null): void {
    if (why !== null) this.#refused.set(why, (this.#refused.get(why) ?? 0) + 1);
  }

  #readControl(fd: number, hops: Hops): void {
    const take = (arrival: ControlArrival) => this.#refuse(this.#hearControl(arrival, hops));
    for (let i = 0; i < batchesPerRound; i++) if (!readControl(fd, this.#batch, take)) return;
  }

  #readEchoes(fd: number): void {
    const take = (parsed: EchoParse) => this.#refuse(parsed.ok ? this.#hearEcho(parsed.arrival) : parsed.why);
    for (let i = 0; i < batchesPerRound; i++) if (!readEchoes(fd, this.#batch, take)) return;
  }

  /** @returns why the packet was refused; null when a session took it */
  #hearControl({ data, source, ttl, ifindex }: ControlArrival, hops: Hops): string | null {
    const parsed = parseBfdPacket(data);
    if (!parsed.ok) return parsed.why;
    const path = pathKey(ifindex, Buffer.from(source).toString('hex'), hops);
    const found = this.#table.find(parsed.packet, { ttl, path, hops });
    if (!found.ok) return found.why;
    const session = this.#sessions.get(found.id);
    if (session === undefined) return 'no-session-with-peer';
    const now = nowUs();
    this.#sessions.get(otherEnd(session) ?? '')?.heardBeyond(probeNumber(data), now);
    session.hearControl(parsed.packet, now);
    this.#settle(session, now);
    return null;
  }

  #hearEcho({ ifindex, address, ttl, payload }: EchoArrival): string | null {
    const parsed = parseBfdPacket(payload);
    const session = parsed.ok ? this.#echoDiscrs.get(parsed.packet.myDiscr) : undefined;
    // RFC 9747 section 2: sent with 255; one forwarding hop leaves 254. More: the node did not forward it, or is no hop (gwlb).
    if (ttl !== 254 && !(ttl === 255 && session?.spec.noControl)) return 'echo-ttl-not-254';
    if (!parsed.ok) return `echo-${parsed.why}`;
    if (session === undefined) return 'echo-no-session';
    if (session.ifindex !== ifindex || session.spec.local !== address) return 'echo-wrong-path';
    const now = nowUs();
    session.hearEcho(probeNumber(payload), now);
    this.#settle(session, now);
    return null;
  }

  #runDeadlines(): void {
    for (;;) {
      const now = nowUs();
      const session = this.#deadlines.due(now);
      if (session === undefined) return;
      session.tick(now);
      this.#settle(session, now);
    }
  }

  /** After anything happened to a session: its next deadline and its health. */
  #settle(session: RunningSession, now: number): void {
    this.#deadlines.set(session, session.nextAtUs());
    const change = session.healthChange(now);
    if (change === null) return;
    // A failure must not wait for the rest of the round.
    if (change.state === 'down') this.#ports.report({ kind: 'health', rows: [change] });
    else this.#changed.push(change);
  }

  #flush(): void {
    if (this.#changed.length === 0) return;
    this.#ports.report({ kind: 'health', rows: this.#changed });
    this.#changed = [];
  }

  #takeOrders(): void {
    libc().read(this.wakeFd, new Uint8Array(8), 8);
    for (let order = this.#ports.takeOrder(); order !== undefined; order = this.#ports.takeOrder()) {
      switch (order.kind) {
        case 'sessions':
          this.#wanted = order;
          this.#reconcile();
          break;
        case 'admin': {
          const found = this.#setAdmin(order.id, order.down);
          this.#ports.report({ kind: 'admin-done', ask: order.ask, found });
          break;
        }
        case 'found':
          this.#takeFindings(order.id, order.findings);
          break;
        case 'list':
        case 'measure':
          this.#ports.report(answerAbout(this.#sessions.values(), this.#refused, order));
          break;
        case 'stop':
          this.#stopped = true;
          return;
      }
    }
  }

  #setAdmin(id: string, down: boolean): boolean {
    const session = this.#sessions.get(id);
    if (session === undefined) return false;
    this.#adminDown[down ? 'add' : 'delete'](id);
    const now = nowUs();
    session.setAdminDown(down, now);
    this.#settle(session, now);
    return true;
  }

  #takeFindings(id: string, more: Findings): void {
    const findings = { ...this.#found.get(id), ...more };
    this.#found.set(id, findings);
    const session = this.#sessions.get(id); // may be still to come
    if (session !== undefined) this.#settle(Object.assign(session, { findings }), nowUs());
  }

  /** Brings sessions in line with what is wanted, and each with the devices that are there. */
  #reconcile(): void {
    if (!this.#network.ready) {
      this.#reattachAtUs = nowUs() + reattachEveryUs;
      return;
    }
    const wanted = this.#wanted;
    this.#wanted = null;
    if (wanted !== null) this.#takeOver(wanted.specs);
    const now = nowUs();
    if (wanted !== null || now >= this.#reattachAtUs) {
      this.#reattachAtUs = now + reattachEveryUs;
      for (const session of this.#sessions.values()) {
        if (session.attach(this.#network, now)) this.#enrol(session);
        this.#settle(session, now);
      }
    }
    if (wanted === null) return;
    this.#changed = []; // the snapshot says it all
    const rows = [...this.#sessions.values()].map((session) => session.healthRow(now));
    this.#ports.report({ kind: wanted.partial ? 'health' : 'snapshot', rows });
  }

  #takeOver(specs: readonly SessionSpec[]): void {
    const now = nowUs();
    const wanted = new Map(specs.map((spec) => [spec.id, spec]));
    for (const [id, session] of this.#sessions) {
      const spec = wanted.get(id);
      if (spec === undefined || !samePath(spec, session.spec)) this.#remove(id, session, now);
    }
    for (const spec of wanted.values()) {
      const running = this.#sessions.get(spec.id);
      if (running === undefined) this.#add(spec, now);
      else if (JSON.stringify(running.spec) !== JSON.stringify(spec)) {
        running.retime(spec, this.#newDiscr(), now);
        this.#enrol(running);
      }
    }
  }

  #add(spec: SessionSpec, now: number): void {
    const session = new RunningSession(spec, [this.#newDiscr(), this.#newDiscr()], now, this.#around);
    session.findings = this.#found.get(spec.id) ?? {};
    this.#sessions.set(spec.id, session);
    this.#enrol(session);
    if (this.#adminDown.has(spec.id)) session.setAdminDown(true, now);
  }

  #remove(id: string, session: RunningSession, now: number): void {
    this.#sessions.delete(id);
    this.#deadlines.remove(session);
    this.#table.remove(session.control.localDiscr);
    if (session.echo !== null) this.#echoDiscrs.delete(session.echo.discr);
    session.close(now);
  }

  #enrol(session: RunningSession): void {
    this.#table.put({ id: session.spec.id, localDiscr: session.control.localDiscr, path: session.path });
    for (const [discr, other] of this.#echoDiscrs) if (other === session) this.#echoDiscrs.delete(discr);
    if (session.echo !== null) this.#echoDiscrs.set(session.echo.discr, session);
  }

  /** Random, not zero, not in use: RFC 5880 section 6.8.1. */
  #newDiscr(): number {
    for (;;) {
      const discr = randomInt(1, 2 ** 32);
      if (!this.#table.hasDiscr(discr) && !this.#echoDiscrs.has(discr)) return discr;
    }
  }

  #close(fds: readonly number[]): void {
    const now = nowUs();
    for (const session of this.#sessions.values()) session.close(now);
    for (const fd of [...fds, this.#around.echoFd]) libc().close(fd);
  }
}
