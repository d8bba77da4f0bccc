// SPDX-License-Identifier: Apache-2.0
// One gateway put together: datapath, desks, core, sweeper. It takes events from outside (tables, intent, health) and answers questions; how
// these arrive is main.ts's matter.
import { openRing, type Ring } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { describeError } from '@detour/core';
import type { CounterMaps } from './counters.js';
import type { Datapath } from './datapath.js';
import { DecidedDesk } from './decided-desk.js';
import type { FlowQuestion } from './decision.js';
import { type EventDeskOptions, handleEvent } from './event-desk.js';
import type { FlowLog } from './flow-log.js';
import { type FlowRowSources, rowSources } from './flow-rows.js';
import { scanFlows } from './flow-scan.js';
import type { FlowSlots } from './flow-slots.js';
import type { FlowMaps, FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import type { GatewayCore } from './gateway-core.js';
import { assembleParts, type GatewayOptions, type GatewayParts } from './gateway-parts.js';
import { Gathered } from './gathered.js';
import type { HealthBook } from './health.js';
import type { Injector } from './injector.js';
import type { LentSlots } from './lent-slots.js';
import type { GatewayModel } from './model.js';
import type { NeighbourEvent, NeighbourWatch, NetworkEvent } from './neighbours.js';
import type { OwnDecisions } from './own-decisions.js';
import type { PacketDesks } from './packet-desks.js';
import type { PuntDesk } from './punt-desk.js';
import { redecide } from './redecide.js';
import { SweepLoop } from './sweep-loop.js';
import type { SweepResult } from './sweeper.js';
import { TableBook, type TableSet, type Taken } from './table-book.js';
import type { Ways } from './ways.js';

export type { GatewayOptions } from './gateway-parts.js';

const DESK_TICK_MS = 5;
const REFRESH_LINKS_MS = 20;
const RESOLVE_AGAIN_MS = 250;

export class Gateway implements AsyncDisposable {
  readonly book = new TableBook();
  readonly datapath: Datapath;
  readonly core: GatewayCore;
  readonly health: HealthBook;
  readonly ways: Ways;
  readonly neighbours: NeighbourWatch;
  readonly decisions: OwnDecisions;
  readonly slots: FlowSlots;
  readonly lent: LentSlots;
  readonly punts: PuntDesk;
  readonly injector: Injector;
  readonly desks: PacketDesks;
  readonly flows: FlowTable;
  readonly counterMaps: CounterMaps;
  readonly flowMaps: FlowMaps;
  private ring: Ring | null = null;
  private readonly timers: NodeJS.Timeout[] = [];
  private linksTimer: NodeJS.Timeout | null = null;
  private resolveTimer: NodeJS.Timeout | null = null;
  private sweeping: Promise<void> = Promise.resolve();
  private readonly stopping = new AbortController();
  private readonly sweeps: SweepLoop;
  private readonly decided: DecidedDesk;
  private readonly wayNews = new Gathered<NeighbourEvent>((events) => {
    this.core.waysChanged(); // hop rows first: what is put back would only be held again
    for (const { device, address, mac } of events) this.parts.arps.settle(device, address, mac !== null);
  });

  private constructor(
    private readonly options: GatewayOptions,
    private readonly parts: GatewayParts,
  ) {
    this.datapath = parts.datapath;
    this.core = parts.core;
    this.health = parts.health;
    this.ways = parts.ways;
    this.neighbours = parts.neighbours;
    this.decisions = parts.decisions;
    this.slots = parts.slots;
    this.lent = parts.lent;
    this.decided = new DecidedDesk({
      slots: parts.slots,
      noticeTaken: () => parts.lent.noticeTaken(),
      chainOf: (number) => parts.decisions.chainOf(number),
      onPins: options.onUnrecorded,
    });
    this.sweeps = new SweepLoop(options, parts);
    this.punts = parts.punts;
    this.injector = parts.injector;
    this.desks = parts.desks;
    this.flows = parts.flows;
    this.flowMaps = parts.flowMaps;
    this.counterMaps = parts.counterMaps;
  }

  /** Guards, loads or takes over the datapath, and begins to serve punts. Nothing new is published before a whole version is offered. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    // The parts know the gateway by a late-bound name; it is not used before this has returned.
    const self: { gateway: Gateway | null } = { gateway: null };
    const parts = await assembleParts(options, {
      onNetwork: (event) => self.gateway?.onNetwork(event),
      onPathMtu: () => self.gateway?.pathMtuChanged(),
    });
    const made = new Gateway(options, parts);
    self.gateway = made;
    await made.begin();
    return made;
  }

  private async begin(): Promise<void> {
    const { options } = this;
    const lent = (await this.parts.upgrade?.begin()) ?? [];
    if (this.datapath.takenOver || this.parts.upgrade !== null) await this.adoptFlows(lent);
    if (options.beginRate > 0) this.lent.fill();
    await this.neighbours.start();
    const desk: EventDeskOptions = {
      punts: this.punts,
      neighbours: this.parts.arps,
      ...this.desks,
      deviceName: (ifindex) => this.core.view.deviceName(ifindex),
      armOf: (hop) => this.core.view.armOf(hop),
      dropHeld: (packets, reason) => this.injector.drop(packets, reason),
      onRepin: options.onRepin,
      onDecided: (flow) => this.decided.take(flow),
      onRevalidate: (question) => this.revalidate(question),
      onHopNotReady: (node) => this.onHopNotReady(node),
    };
    this.ring = openRing(this.datapath.map('events'), (record) => handleEvent(record, desk), {
      maxPerWake: 512,
    });
    this.timers.push(
      setInterval(() => {
        this.punts.tick();
        if (options.beginRate > 0) this.lent.fill();
        this.decided.flush();
        this.parts.arps.tick();
        this.desks.fragments.tick();
        if (this.parts.pathMtus.expire()) this.pathMtuChanged();
      }, DESK_TICK_MS),
    );
    this.sweeping = this.sweeps.run(AbortSignal.any([options.signal, this.stopping.signal]));
  }

  get flowLog(): FlowLog | null {
    return this.sweeps.flowLog;
  }

  /** Of the version in force; null before there is one. */
  get model(): GatewayModel | null {
    return this.core.running?.model ?? null;
  }

  get lastSweep(): SweepResult | null {
    return this.sweeps.last;
  }

  /** A complete version, if there is one now, is brought into force; why it was refused at once, or null. */
  tablesChanged(): string | null {
    const set = this.book.complete();
    return set === null ? null : this.core.offer(set);
  }

  /** Brings a table that the book took into force; one that is refused there is taken back. */
  take(taken: Taken): Taken {
    const why = taken.ok ? this.tablesChanged() : null;
    return why === null ? taken : this.book.takeBack(why);
  }

  rowSources({ model }: TableSet): FlowRowSources {
    return rowSources(this.parts, model);
  }

  /** Rules changed since this flow was classified: the record follows them, or stays where they say the same. */
  private revalidate(question: FlowQuestion): void {
    const tables = this.core.liveTables;
    const record = this.flows.read(question.key);
    if (tables === null || record === null) return;
    const { flow } = record;
    const opened = (this.flows.counters(flow.slot).seen & abi.FlowSeen.SEEN_SYN) !== 0;
    const next = redecide(tables, question, {
      flow,
      opened,
      pinGen: this.slots.pinGenOf(flow.slot),
    });
    if (next === null || !this.flows.replace(question.key, next.decision) || !next.moved) return;
    this.slots.setPinGen(flow.slot, next.decision.pinGen);
    this.slots.setRecorded(flow.slot, next.decision.action !== 'steer');
  }

  private onNetwork(event: NetworkEvent): void {
    if (event.kind === 'routing') {
      this.datapath.bumpRoutes();
      this.linksTimer ??= setTimeout(() => {
        this.linksTimer = null;
        this.inBackground(this.core.networkChanged(), 'the machine was not looked at again');
      }, REFRESH_LINKS_MS);
      return;
    }
    if (event.mac === null) this.ways.forgotten(event.device, event.address);
    if (event.changed) this.datapath.bumpRoutes();
    if (event.changed && this.ways.concerns(event.device, event.address)) this.wayNews.add(event);
    else this.parts.arps.settle(event.device, event.address, event.mac !== null);
  }

  /** A packet was dropped because the way to a node is not resolved: the kernel may have forgotten what it was to keep resolved. */
  private onHopNotReady(node: number): void {
    this.options.log.debug({ node }, 'a packet was dropped: the way to its node is not resolved');
    this.resolveTimer ??= setTimeout(() => {
      this.resolveTimer = null;
      this.inBackground(this.core.resolveAgain(), 'neighbours were not asked for again');
    }, RESOLVE_AGAIN_MS);
  }

  private pathMtuChanged(): void {
    this.inBackground(this.core.pathMtuChanged(), 'the MTU of VTIs stays as it was');
  }

  private inBackground(work: Promise<void>, otherwise: string): void {
    work.catch((error: unknown) => this.options.log.warn({}, `${otherwise}: ${describeError(error)}`));
  }

  /** `lent`: counter rows that the program of a predecessor may still take. */
  private async adoptFlows(lent: readonly number[]): Promise<void> {
    const slots: { slot: number; pinGen: number }[] = [];
    for await (const { value } of scanFlows(this.flowMaps)) {
      const flow = abi.flow.decode(value);
      if (unpackFlowWord(flow.word).action !== abi.FlowAction.FLOW_PENDING)
        slots.push({ slot: flow.slot, pinGen: flow.pinGen });
    }
    this.slots.adopt(slots, this.options.clock.monoMs(), [...this.lent.unused(), ...lent]);
    await this.desks.snat.adopt();
    this.options.log.info({ flows: slots.length }, 'took over the flows of a predecessor');
  }

  /** Stops serving; the program, its links and its maps stay and go on steering. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort();
    await this.neighbours[Symbol.asyncDispose]();
    this.wayNews[Symbol.dispose]();
    this.parts.recalls[Symbol.dispose]();
    for (const timer of [...this.timers, this.linksTimer, this.resolveTimer])
      clearTimeout(timer ?? undefined);
    this.ring?.close();
    await this.core.close();
    await this.parts.builder[Symbol.asyncDispose]();
    await this.sweeping;
    await this.sweeps[Symbol.asyncDispose]();
    this.flows[Symbol.dispose]();
    this.lent[Symbol.dispose]();
    this.datapath[Symbol.dispose]();
  }
}
