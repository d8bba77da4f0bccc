// SPDX-License-Identifier: Apache-2.0
// One gateway put together: datapath, desks, core, sweeper. It takes events from outside (tables, intent, health) and answers questions; how
// these arrive is main.ts's matter.
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { type BpfMap, openPacketSocket, openRing, type Ring } from '@detour/bpf';
import { type AlarmCode, abi, INJECT_DEVICES } from '@detour/contracts';
import { type Clock, describeError, type FlowKey, type Log } from '@detour/core';
import { Banks } from './bank.js';
import type { CounterMaps } from './counters.js';
import { Datapath, type DatapathOptions } from './datapath.js';
import {
  choosePathLocally,
  decideLocally,
  type FlowDecision,
  type FlowQuestion,
  forwardTuple,
} from './decision.js';
import { ensureDevices } from './devices.js';
import { type EventDeskOptions, handleEvent, type Repin } from './event-desk.js';
import { scanFlows } from './flow-scan.js';
import { FlowSlots } from './flow-slots.js';
import { type FlowMaps, FlowTable } from './flow-table.js';
import { unpackFlowWord } from './flow-word.js';
import { GatewayCore } from './gateway-core.js';
import { installGuard } from './guard.js';
import { HealthBook } from './health.js';
import { Injector } from './injector.js';
import type { ChainModel } from './model.js';
import { NeighbourDesk } from './neighbour-desk.js';
import { NeighbourWatch, type NetworkEvent } from './neighbours.js';
import { PuntDesk } from './punt-desk.js';
import { redecide } from './redecide.js';
import { SlotBook } from './slot-book.js';
import { SlotBuilder } from './slot-builder.js';
import { type PinUse, type SweepResult, sweepFlows } from './sweeper.js';
import { TableBook, type TableSet } from './table-book.js';
import { warmUp } from './warm-up.js';
import { Ways } from './ways.js';

export interface GatewayOptions extends DatapathOptions {
  readonly guardDevices: readonly string[];
  readonly sysctlDir: string;
  readonly decideWithinMs: number;
  readonly resolveWithinMs: number;
  readonly sweepEveryMs: number;
  /** The built slot-worker.js. */
  readonly slotWorker: URL;
  readonly puntRate: number;
  readonly puntBurst: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly ask: (question: FlowQuestion) => Promise<FlowDecision>;
  readonly onPublished: (set: TableSet) => void;
  readonly onRefused: (revision: number, why: string) => void;
  readonly onTrouble: (code: AlarmCode, text: string | null) => void;
  readonly onRepin: (repin: Repin) => void;
  readonly onRefresh: (pins: readonly PinUse[]) => void;
  readonly onUnrecorded: (pins: readonly PinUse[]) => void;
  readonly onEnded: (keys: readonly FlowKey[]) => void;
}

const DESK_TICK_MS = 5;
const REFRESH_LINKS_MS = 20;
const RESOLVE_AGAIN_MS = 250;
const MAX_PENDING_FLOWS = 16_384;
const MAX_HELD_BYTES = 64 << 20;
const DROP = {
  punt_full: abi.DropReason.DROP_PUNT_FULL,
  conn_full: abi.DropReason.DROP_CONN_FULL,
  decision_timeout: abi.DropReason.DROP_DECISION_TIMEOUT,
  arp_fail: abi.DropReason.DROP_ARP_FAIL,
} as const;

export class Gateway implements AsyncDisposable {
  readonly book = new TableBook();
  readonly flows: FlowTable;
  readonly counterMaps: CounterMaps;
  readonly flowMaps: FlowMaps;
  lastSweep: SweepResult | null = null;
  private ring: Ring | null = null;
  private readonly timers: NodeJS.Timeout[] = [];
  private linksTimer: NodeJS.Timeout | null = null;
  private resolveTimer: NodeJS.Timeout | null = null;
  private sweeping: Promise<void> = Promise.resolve();
  private readonly stopping = new AbortController();

  private constructor(
    private readonly options: GatewayOptions,
    readonly datapath: Datapath,
    readonly core: GatewayCore,
    readonly health: HealthBook,
    readonly ways: Ways,
    readonly neighbours: NeighbourWatch,
    readonly slots: FlowSlots,
    readonly punts: PuntDesk,
    readonly injector: Injector,
    private readonly arps: NeighbourDesk,
    parts: { flows: FlowTable; flowMaps: FlowMaps; counterMaps: CounterMaps },
    private readonly builder: SlotBuilder,
  ) {
    this.flows = parts.flows;
    this.flowMaps = parts.flowMaps;
    this.counterMaps = parts.counterMaps;
  }

  /** Guards, loads or takes over the datapath, and begins to serve punts. Nothing new is published before a whole version is offered. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const { clock, log } = options;
    await installGuard(options.guardDevices, { keep: true });
    const datapath = Datapath.open(options);
    if (!datapath.takenOver) datapath.bumpRoutes();
    datapath.setPuntLimits(options.puntRate, options.puntBurst);
    await ensureDevices([], options.sysctlDir);
    log.debug(
      warmUp(() => clock.monoMs()),
      'the code of a failover is warm',
    );
    const map = (name: string): BpfMap => datapath.map(name);
    const flowMaps: FlowMaps = {
      flows: map('flows'),
      embryos: map('embryos'),
      counters: map('flow_counters'),
    };
    const counterMaps: CounterMaps = {
      drops: map('drops'),
      stats: map('stats'),
      ports: map('port_counters'),
      rules: map('rule_counters'),
      nodes: map('node_counters'),
      examples: map('drop_examples'),
    };
    const slots = new FlowSlots(flowMaps.counters.maxEntries);
    // The parts know each other by these late-bound names; none is used before start() has returned.
    const self: { gateway: Gateway | null } = { gateway: null };
    const gateway = () => {
      if (self.gateway === null) throw new TypeError('an event came before the gateway was put together');
      return self.gateway;
    };
    const health = new HealthBook((name) => {
      const node = self.gateway?.core.running?.model.nodes.find((row) => row.name === name);
      return { liveness: node?.liveness ?? true, adminDownAction: node?.adminDownAction ?? 'keep' };
    });
    const neighbours = new NeighbourWatch(
      (event) => self.gateway?.onNetwork(event),
      (text) => log.warn({}, text),
    );
    const ways = new Ways(neighbours, (text) => log.warn({}, text));
    const banks = new Banks({ store: datapath, monoMs: () => clock.monoMs(), wipe: datapath.takenOver });
    const builder = new SlotBuilder(options.slotWorker);
    const core = new GatewayCore({
      datapath,
      banks,
      health,
      ways,
      slots: new SlotBook({
        build: (members, chain) => builder.build(members, chain),
        onError: (text) => log.warn({}, text),
      }),
      guardDevices: options.guardDevices,
      sysctlDir: options.sysctlDir,
      onPublished: (set) => options.onPublished(set),
      onRefused: options.onRefused,
      onTrouble: options.onTrouble,
    });
    const flows = new FlowTable({
      maps: flowMaps,
      slots,
      nowMs: () => clock.monoMs(),
      nowNs: () => process.hrtime.bigint(),
      rulesGen: () => datapath.rulesGen,
      chainGen: (chain) => core.chainGen(chain),
      onReplaced: () => datapath.bumpFlows(),
    });
    const injector = new Injector(openPacketSocket(INJECT_DEVICES[0]));
    const punts = new PuntDesk({
      deadlineMs: options.decideWithinMs,
      maxPacketsPerFlow: abi.DetourLimit.DT_PENDING_QUEUE,
      maxFlows: MAX_PENDING_FLOWS,
      maxBytes: MAX_HELD_BYTES,
      monoMs: () => clock.monoMs(),
      rulesGen: () => datapath.rulesGen,
      isDecided: (question) => flows.isDecided(question.key),
      ask: options.ask,
      decideAlone: (question) => gateway().decideAlone(question),
      install: (question, decision, rulesGen) => flows.install(question, decision, rulesGen),
      putBack: (packets) => injector.putBack(packets),
      dropHeld: (packets, why) => injector.drop(packets, DROP[why]),
      onError: (error) => log.error({}, `a flow's decision could not be stored: ${describeError(error)}`),
    });
    const arps = new NeighbourDesk({
      deadlineMs: options.resolveWithinMs,
      maxPacketsPerNextHop: 64,
      maxNextHops: 4096,
      maxBytes: MAX_HELD_BYTES,
      monoMs: () => clock.monoMs(),
      resolve: (device, address) => {
        neighbours
          .resolveOnce(device, address)
          .catch((error: unknown) => log.warn({ device, address }, String(error)));
      },
      isResolved: (device, address) => neighbours.macOf(device, address) !== null,
      putBack: (packets) => injector.putBack(packets),
      dropHeld: (packets, why) => injector.drop(packets, DROP[why]),
    });
    const made = new Gateway(
      options,
      datapath,
      core,
      health,
      ways,
      neighbours,
      slots,
      punts,
      injector,
      arps,
      { flows, flowMaps, counterMaps },
      builder,
    );
    self.gateway = made;
    await made.begin();
    return made;
  }

  private async begin(): Promise<void> {
    const { options } = this;
    if (this.datapath.takenOver) await this.adoptFlows();
    await this.neighbours.start();
    const desk: EventDeskOptions = {
      punts: this.punts,
      neighbours: this.arps,
      deviceName: (ifindex) => this.core.deviceName(ifindex),
      dropHeld: (packets, reason) => this.injector.drop(packets, reason),
      onRepin: options.onRepin,
      onRevalidate: (question) => this.revalidate(question),
      onHopNotReady: (node) => this.onHopNotReady(node),
    };
    this.ring = openRing(this.datapath.map('events'), (record) => handleEvent(record, desk), {
      maxPerWake: 512,
    });
    this.timers.push(
      setInterval(() => {
        this.punts.tick();
        this.arps.tick();
      }, DESK_TICK_MS),
    );
    this.sweeping = this.sweepForever();
  }

  /** A complete version, if there is one now, is brought into force; why it was refused at once, or null. */
  tablesChanged(): string | null {
    const set = this.book.complete();
    return set === null ? null : this.core.offer(set);
  }

  /** This gateway's own decision, from the tables in force; null before there are any. */
  decideAlone(question: FlowQuestion): FlowDecision | null {
    const tables = this.core.liveTables;
    return tables === null ? null : decideLocally(tables, question);
  }

  isUsable(chain: number, path: number): boolean {
    const row = this.core.liveTables?.chains.get(chain)?.paths.find((one) => one.number === path);
    return row?.up === true;
  }

  /** True also for a rule that is not known here: nothing passes by mistake. */
  dropsUnresolved(rule: number): boolean {
    return this.core.running?.ruleRows.find((row) => row.number === rule)?.dropUnresolved ?? true;
  }

  chainOf(number: number): ChainModel | undefined {
    return this.core.liveTables?.chains.get(number);
  }

  choose(chain: number, question: FlowQuestion, reversed: boolean): number {
    const tables = this.core.liveTables;
    const row = tables?.chains.get(chain);
    return tables === null || row === undefined
      ? 0
      : choosePathLocally(row, forwardTuple(question, reversed), tables.hashKey);
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
    if (event.changed) this.datapath.bumpRoutes();
    this.arps.settle(event.device, event.address, event.mac !== null);
    if (event.changed && this.ways.concerns(event.device, event.address)) this.core.waysChanged();
  }

  /** A packet was dropped because the way to a node is not resolved: the kernel may have forgotten what it was to keep resolved. */
  private onHopNotReady(node: number): void {
    this.options.log.debug({ node }, 'a packet was dropped: the way to its node is not resolved');
    this.resolveTimer ??= setTimeout(() => {
      this.resolveTimer = null;
      this.inBackground(this.core.resolveAgain(), 'neighbours were not asked for again');
    }, RESOLVE_AGAIN_MS);
  }

  private inBackground(work: Promise<void>, otherwise: string): void {
    work.catch((error: unknown) => this.options.log.warn({}, `${otherwise}: ${describeError(error)}`));
  }

  private async adoptFlows(): Promise<void> {
    const slots: { slot: number; pinGen: number }[] = [];
    for await (const { value } of scanFlows(this.flowMaps)) {
      const flow = abi.flow.decode(value);
      if (unpackFlowWord(flow.word).action !== abi.FlowAction.FLOW_PENDING)
        slots.push({ slot: flow.slot, pinGen: flow.pinGen });
    }
    this.slots.adopt(slots, this.options.clock.monoMs());
    this.options.log.info({ flows: slots.length }, 'took over the flows of a predecessor');
  }

  private async sweepForever(): Promise<void> {
    const { sweepEveryMs, clock } = this.options;
    const signal = AbortSignal.any([this.options.signal, this.stopping.signal]);
    while (!signal.aborted) {
      const took = this.lastSweep?.tookMs ?? 0;
      // A sweep may use a tenth of the time at most, however many flows there are.
      await pause(Math.max(sweepEveryMs, took * 10), signal);
      if (signal.aborted) return;
      try {
        const devices = await this.core.attachAgain();
        if (devices.length > 0)
          this.options.log.warn(
            { devices },
            `the program had been taken off ${devices.join(', ')}, by somebody else: it is put back`,
          );
        this.lastSweep = await sweepFlows(
          {
            maps: this.flowMaps,
            table: this.flows,
            slots: this.slots,
            chains: () => this.core.liveTables?.chains ?? new Map(),
            monoMs: () => clock.monoMs(),
            nowNs: () => process.hrtime.bigint(),
            onRefresh: this.options.onRefresh,
            onUnrecorded: this.options.onUnrecorded,
            onEnded: this.options.onEnded,
          },
          signal,
        );
      } catch (error) {
        if (!signal.aborted) this.options.log.error({}, `the sweep failed: ${String(error)}`);
      }
    }
  }

  /** Stops serving; the program, its links and its maps stay and go on steering. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort();
    await this.neighbours[Symbol.asyncDispose]();
    for (const timer of [...this.timers, this.linksTimer, this.resolveTimer])
      clearTimeout(timer ?? undefined);
    this.ring?.close();
    await this.core.close();
    await this.builder[Symbol.asyncDispose]();
    await this.sweeping;
    this.flows[Symbol.dispose]();
    this.datapath[Symbol.dispose]();
  }
}

/** Resolves after a time, or at once when the signal comes. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return setTimeoutAsync(ms, undefined, { signal }).catch(() => {});
}
