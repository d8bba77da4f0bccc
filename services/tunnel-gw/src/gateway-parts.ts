// SPDX-License-Identifier: Apache-2.0
// What a gateway is put together from: datapath, tables' core, desks; each made once, in the order in which they need each other.
import type { Answer, Claims, Pin, PinRequest } from '@detour/affinity';
import { type BpfMap, mapArray, openPacketSocket } from '@detour/bpf';
import { type AlarmCode, abi, type FlowRecord, INJECT_DEVICES } from '@detour/contracts';
import { type Clock, describeError, type FlowKey, type Log } from '@detour/core';
import { Banks } from './bank.js';
import type { CounterMaps } from './counters.js';
import { Datapath, type DatapathOptions } from './datapath.js';
import type { FlowDecision, FlowQuestion } from './decision.js';
import { ensureDevices } from './devices.js';
import type { Repin } from './event-desk.js';
import { FlowSlots } from './flow-slots.js';
import { type FlowMaps, FlowTable } from './flow-table.js';
import { GatewayCore } from './gateway-core.js';
import { installGuard } from './guard.js';
import { HealthBook } from './health.js';
import { Injector } from './injector.js';
import { LentSlots } from './lent-slots.js';
import { everyNode } from './model.js';
import { NeighbourDesk } from './neighbour-desk.js';
import { NeighbourWatch, type NetworkEvent } from './neighbours.js';
import { OwnDecisions } from './own-decisions.js';
import { type PacketDesks, packetDesks } from './packet-desks.js';
import { PathChoices } from './path-choices.js';
import { PathMtus } from './path-mtus.js';
import { PuntDesk } from './punt-desk.js';
import { RecallDesk } from './recall-desk.js';
import { RuleHalves } from './rule-halves.js';
import { SlotBook } from './slot-book.js';
import { SlotBuilder } from './slot-builder.js';
import type { PinUse, SweepResult } from './sweeper.js';
import type { TableSet } from './table-book.js';
import { Upgrade } from './upgrade.js';
import { warmUp } from './warm-up.js';
import { Ways } from './ways.js';

export interface GatewayOptions extends DatapathOptions {
  readonly name: string;
  readonly guardDevices: readonly string[];
  readonly sysctlDir: string;
  readonly decideWithinMs: number;
  readonly resolveWithinMs: number;
  readonly sweepEveryMs: number;
  /** Where the flow log goes; empty: there is none. */
  readonly flowLogPath: string;
  /** Lines per second. */
  readonly flowLogRate: number;
  /** Percent of the table of established flows from which on that is an alarm. */
  readonly flowsAlarm: number;
  /** The built slot-worker.js. */
  readonly slotWorker: URL;
  readonly puntRate: number;
  readonly puntBurst: number;
  readonly beginRate: number;
  readonly beginBurst: number;
  /** Of the flows that the datapath could decide, the share (0 to 1) that is asked about for a trace. */
  readonly askShare: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly ask: (question: FlowQuestion) => Promise<FlowDecision>;
  readonly onPublished: (set: TableSet) => void;
  readonly onRefused: (revision: number, why: string) => void;
  readonly onTrouble: (code: AlarmCode, text: string | null) => void;
  readonly onRepin: (repin: Repin) => void;
  readonly onRefresh: (pins: readonly PinUse[]) => void;
  /** What Redis holds of flows, which is ours where it held nothing. */
  readonly lookOrCreate: (offers: readonly PinRequest[]) => Promise<Answer<Pin>[]>;
  readonly lookUp: (keys: readonly string[]) => Promise<Answer<FlowRecord | null>[]>;
  readonly redisConnected: () => boolean;
  /** Ports of SNAT addresses that gateways share. */
  readonly claims: Claims;
  readonly onUnrecorded: (pins: readonly PinUse[]) => void;
  readonly onEnded: (keys: readonly FlowKey[]) => void;
  readonly onSwept: (result: SweepResult) => void;
}

const MAX_PENDING_FLOWS = 16_384;
const MAX_HELD_BYTES = 64 << 20;
const DROP = {
  punt_full: abi.DropReason.DROP_PUNT_FULL,
  conn_full: abi.DropReason.DROP_CONN_FULL,
  decision_timeout: abi.DropReason.DROP_DECISION_TIMEOUT,
  arp_fail: abi.DropReason.DROP_ARP_FAIL,
} as const;

/** What the parts need of the gateway that they become; not called before it is put together. */
export interface LateParts {
  readonly onNetwork: (event: NetworkEvent) => void;
  /** What a way of the underlay takes has changed. */
  readonly onPathMtu: () => void;
}

export interface GatewayParts {
  readonly datapath: Datapath;
  readonly core: GatewayCore;
  readonly health: HealthBook;
  readonly ways: Ways;
  readonly neighbours: NeighbourWatch;
  readonly slots: FlowSlots;
  readonly lent: LentSlots;
  readonly flows: FlowTable;
  readonly flowMaps: FlowMaps;
  readonly counterMaps: CounterMaps;
  readonly punts: PuntDesk;
  readonly injector: Injector;
  readonly arps: NeighbourDesk;
  readonly builder: SlotBuilder;
  readonly desks: PacketDesks;
  readonly pathMtus: PathMtus;
  readonly choices: PathChoices;
  readonly decisions: OwnDecisions;
  readonly recalls: RecallDesk;
  /** Null: there is no datapath of another ABI to be replaced. */
  readonly upgrade: Upgrade | null;
}

/** Installs the guard, loads or takes over the datapath, and makes all parts. */
export async function assembleParts(options: GatewayOptions, late: LateParts): Promise<GatewayParts> {
  const { clock, log } = options;
  await installGuard(options.guardDevices, { keep: true });
  const datapath = Datapath.open(options);
  if (!datapath.takenOver) datapath.bumpRoutes();
  datapath.setPuntLimits(options.puntRate, options.puntBurst);
  datapath.setBeginLimits(options.beginRate, options.beginBurst, options.askShare);
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
    sent: map('sent'),
    rules: map('rule_counters'),
    nodes: map('node_counters'),
    examples: map('drop_examples'),
  };
  const slots = new FlowSlots(flowMaps.counters.maxEntries);
  const lent = new LentSlots(mapArray(map('free_slots')), slots, () => clock.monoMs());
  const { predecessor } = datapath;
  const upgrade =
    predecessor === null
      ? null
      : new Upgrade({ datapath, predecessor, slots, monoMs: () => clock.monoMs(), log });
  // Health is asked about nodes of the version in force, which the core has.
  const self: { core: GatewayCore | null } = { core: null };
  const health = new HealthBook(({ name, vrfName }) => {
    const model = self.core?.running?.model;
    const node = model && everyNode(model).find((row) => row.name === name && row.vrfName === vrfName);
    return { liveness: node?.liveness ?? true, adminDownAction: node?.adminDownAction ?? 'keep' };
  });
  const neighbours = new NeighbourWatch(late.onNetwork, (text) => log.warn({}, text));
  const pathMtus = new PathMtus(() => clock.monoMs());
  const ways = new Ways(neighbours, pathMtus, (text) => log.warn({}, text));
  const banks = new Banks({
    store: datapath,
    monoMs: () => clock.monoMs(),
    wipe: datapath.takenOver || upgrade !== null,
  });
  const builder = new SlotBuilder(options.slotWorker);
  const core = new GatewayCore({
    ...{ datapath, banks, upgrade },
    ruleHalves: new RuleHalves(datapath.ruleHalves, () => banks.settle()),
    health,
    ways,
    slots: new SlotBook({
      build: (members, chain) => builder.build(members, chain),
      onError: (text) => log.warn({}, text),
    }),
    lookupByRules: options.lookupByRules,
    guardDevices: options.guardDevices,
    sysctlDir: options.sysctlDir,
    onPublished: (set) => options.onPublished(set),
    onRefused: options.onRefused,
    onTrouble: options.onTrouble,
  });
  self.core = core;
  const flows = new FlowTable({
    maps: flowMaps,
    slots,
    nowMs: () => clock.monoMs(),
    nowNs: () => process.hrtime.bigint(),
    rulesGen: () => datapath.rulesGen,
    chainGen: (chain) => core.chainGen(chain),
    onReplaced: () => datapath.bumpFlows(),
    isInside: (port) => core.view.isInside(port),
    takeBackSlots: () => lent.takeBack(),
  });
  const injector = new Injector(openPacketSocket(INJECT_DEVICES[0]));
  const choices = new PathChoices(options.name);
  const decisions = new OwnDecisions(core, choices);
  const recalls = new RecallDesk({
    decideAlone: (question, how) => decisions.decide(question, how),
    chainOf: (number) => decisions.chainOf(number),
    connected: options.redisConnected,
    lookUp: options.lookUp,
    lookOrCreate: options.lookOrCreate,
  });
  const punts = new PuntDesk({
    deadlineMs: options.decideWithinMs,
    maxPacketsPerFlow: abi.DetourLimit.DT_PENDING_QUEUE,
    maxFlows: MAX_PENDING_FLOWS,
    maxBytes: MAX_HELD_BYTES,
    monoMs: () => clock.monoMs(),
    rulesGen: () => datapath.rulesGen,
    isDecided: (question) => flows.isDecided(question.key),
    ask: (question) =>
      recalls.known(question)?.then((found) => found ?? options.ask(question)) ?? options.ask(question),
    recall: (question) => recalls.ask(question),
    decideAlone: (question) => decisions.decide(question),
    install: (question, decision, rulesGen) => {
      const stored = flows.install(question, decision, rulesGen);
      choices.settle(question, stored ? decision.path : 0);
      return stored;
    },
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
      // One that a hop depends on is to stay resolved; asking for it once would end that.
      (ways.concerns(device, address) ? ways.keepResolved() : neighbours.resolveOnce(device, address)).catch(
        (error: unknown) => log.warn({ device, address }, String(error)),
      );
    },
    isResolved: (device, address) => neighbours.macOf(device, address) !== null,
    putBack: (packets) => injector.putBack(packets),
    dropHeld: (packets, why) => injector.drop(packets, DROP[why]),
  });
  const desks = packetDesks({
    ...{ core, flows, injector, pathMtus },
    hops: map('hops'),
    snatMaps: { bindings: map('snat_bindings'), inners: map('snat_inners') },
    claims: options.claims,
    onSnatFull: (text) => options.onTrouble('snat_full', text),
    onError: (text) => log.error({}, text),
    readBank: () => datapath.readBank(),
    monoMs: () => clock.monoMs(),
    onPathMtu: (remote, mtu, router) => {
      log.info({ remote, mtu, router }, `the way to ${remote} takes ${mtu} bytes, says ${router}`);
      late.onPathMtu();
    },
  });
  return {
    ...{ datapath, core, health, ways, neighbours, slots, lent, flows, flowMaps, counterMaps },
    ...{ punts, injector, arps, builder, desks, pathMtus, choices, decisions, recalls, upgrade },
  };
}
