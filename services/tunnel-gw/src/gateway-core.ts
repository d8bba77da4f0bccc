// SPDX-License-Identifier: Apache-2.0
// The heart of tunnel-gw: from tables, health, links and neighbours to the published banks. All inputs are events; each ends in at most one
// staging and one flip. Devices are made before the tables that name them, and removed after those that do not. What takes time (devices,
// routes) goes one after the other in a queue of its own; health, ways and tables never wait for it.
import { describeError, Fault, hashKeyToBigInt } from '@detour/core';
import type { NodeState } from '@detour/tables';
import type { Banks, Row } from './bank.js';
import type { ChainModels } from './chain-models.js';
import type { LiveTables } from './decision.js';
import { readLinks, type VtiDevice } from './devices.js';
import { machineShape } from './gateway-devices.js';
import type { HealthBook } from './health.js';
import { chainsFrom } from './left-chains.js';
import { Machine, type MachineOptions, namesOf } from './machine.js';
import { machineRows } from './machine-rows.js';
import { decidesOf, type GatewayModel } from './model.js';
import { nodeStates } from './node-states.js';
import type { RuleHalves } from './rule-halves.js';
import { RunningModel } from './running-model.js';
import type { SlotBook, WantedSlots } from './slot-book.js';
import type { TableSet } from './table-book.js';
import type { Upgrade } from './upgrade.js';

export interface CoreOptions extends MachineOptions {
  readonly banks: Banks;
  readonly ruleHalves: RuleHalves;
  readonly health: HealthBook;
  readonly slots: SlotBook;
  /** What a predecessor of another ABI left, to be moved here; null: there is nothing. */
  readonly upgrade: Pick<Upgrade, 'catchUp' | 'finish'> | null;
  readonly onPublished: (set: TableSet, counts: { written: number; removed: number }) => void;
  readonly onRefused: (revision: number, why: string) => void;
}

/** Soon, but not in the turn in which something waits. */
const FOLLOW_UP_MS = 5;
const HEALTH_WAIT_MS = 2_000;

export class GatewayCore {
  /** The version in force, for questions. */
  readonly view: RunningModel;
  private active: TableSet | null = null;
  private shape = '';
  private base: readonly Row[] | null = null;
  private readonly machine: Machine;
  private readonly chains: ChainModels;
  private queue: Promise<void> = Promise.resolve();
  private activating = 0;
  private wanted: TableSet | null = null;
  /** The devices as they were when `wanted` was refused: other devices are a reason to try again. */
  private refusedLinks: string | null = null;
  private refreshDue: Promise<void> | null = null;
  private closed = false;
  private building = false;
  private followTimer: NodeJS.Timeout | null = null;

  constructor(private readonly options: CoreOptions) {
    this.machine = new Machine(options);
    this.view = new RunningModel(() => this.active?.model ?? null, this.machine, options.ways);
    this.chains = chainsFrom(options.datapath, options.slots);
  }

  get running(): TableSet | null {
    return this.active;
  }

  get liveTables(): LiveTables | null {
    if (this.active === null) return null;
    const rules = this.options.ruleHalves.rules(this.active.ruleRows);
    return rules === null ? null : { rules, chains: this.chains.all(), hashKey: this.active.model.hashKey };
  }

  chainGen(chain: number): number {
    return this.chains.get(chain)?.gen ?? 0;
  }

  /**
   * A complete version: at once when its devices and tunnels are those in force, else after making them. Null when it is in force or on its
   * way; otherwise why it was refused, and what was in force stays.
   */
  offer(set: TableSet): string | null {
    const { active } = this;
    const known =
      active?.model === set.model || (this.activating === 0 && machineShape(set.model) === this.shape);
    const built = this.chains.lacking(set.chains, this.statesOf(set.model)).length === 0;
    const staged = this.options.ruleHalves.stageAtOnce(set.ruleRows);
    if (active !== null && known && built && staged) {
      const why = this.adopt(set);
      if (why === null) this.wanted = set;
      return why;
    }
    this.wanted = set;
    if (active !== null && known) {
      void this.adoptWhenBuilt(set);
      return null;
    }
    this.activating++;
    void this.inTurn(() => this.activate(set.model)).finally(() => this.activating--);
    return null;
  }

  /** Resolves when nothing is on its way any more; nothing may be offered after that. */
  async close(): Promise<void> {
    await this.queue;
    this.closed = true;
    if (this.followTimer !== null) clearTimeout(this.followTimer);
  }

  /** The state in force of some nodes changed. Synchronous: the map is changed when this returns. */
  healthChanged(): void {
    this.republish();
  }

  /** A way to a node (its neighbours, its route) changed. */
  waysChanged(): void {
    this.base = null;
    this.republish();
  }

  /** What a way takes changed: hop rows at once, and the devices of the VTIs, for what the kernel itself sends. */
  async pathMtuChanged(): Promise<void> {
    this.waysChanged();
    await this.networkChanged();
  }

  /** Links, addresses or routes may have changed: compares, and publishes when they did. One that waits for its turn does for all that come meanwhile. */
  async networkChanged(): Promise<void> {
    this.refreshDue ??= this.inTurn(() => this.refreshNetwork());
    await this.refreshDue;
  }

  /** Neighbours that hop rows need, asked for again: the kernel forgets them when a link goes down. */
  async resolveAgain(): Promise<void> {
    await this.inTurn(() => this.options.ways.keepResolved());
  }

  /** Puts the program back where somebody else took it off; returns the devices. */
  async attachAgain(): Promise<string[]> {
    if (this.options.datapath.ports.detached().length === 0) return [];
    let devices: string[] = [];
    await this.inTurn(async () => {
      devices = this.options.datapath.ports.detached();
      if (this.active !== null) this.machine.attachWhatIsThere(this.active.model);
    });
    return devices;
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.queue.then(work);
    this.queue = done.catch(() => {}); // whoever asked has the error
    return done;
  }

  private async refreshNetwork(): Promise<void> {
    this.refreshDue = null;
    const { active, wanted } = this;
    const links = await readLinks();
    if (wanted !== null && this.refusedLinks !== null && this.refusedLinks !== namesOf(links)) {
      await this.activate(wanted.model);
      return;
    }
    if (active === null || !(await this.machine.refresh(active.model, links))) return;
    this.waysChanged();
    await this.options.ways.keepResolved();
  }

  private async activate(model: GatewayModel): Promise<void> {
    const { options, active } = this;
    if (this.wanted?.model !== model || active === this.wanted) return; // a newer one came meanwhile, or this one went in
    let vtis: readonly VtiDevice[];
    const arrived = options.ways.move(active?.model ?? null, model, () => this.waysChanged());
    try {
      vtis = await this.machine.prepare(model, active?.model ?? null);
      // A predecessor's tables stay until bfd has said how the nodes are: a restart sends nobody to one that is not known to be up, and drops nothing.
      if (active === null && options.datapath.steers) await options.health.connectedWithin(HEALTH_WAIT_MS);
      await this.allBuilt();
      await options.upgrade?.catchUp();
      if (this.wanted.model !== model) return;
      const why = this.adopt(this.wanted); // its tables may be newer than when this began
      if (why !== null) throw new Fault('refused', why);
    } catch (error) {
      if (active !== null && (await this.machine.restore(active.model))) this.waysChanged();
      options.onRefused(model.revision, describeError(error));
      this.refusedLinks = await readLinks().then(namesOf, () => '');
      return;
    } finally {
      await arrived();
    }
    await options.upgrade?.finish();
    this.shape = machineShape(model);
    this.refusedLinks = null;
    options.ways.retain(model);
    await this.machine.cleanUp(model, vtis);
  }

  /** A version that needs no other devices, and slots or rules that take their time. */
  private async adoptWhenBuilt(set: TableSet): Promise<void> {
    const failed = await this.allBuilt().then(() => null, describeError);
    if (this.closed || this.wanted !== set || this.active === set) return; // a newer one came meanwhile
    const why = failed ?? this.adopt(set);
    if (why === null) return;
    this.wanted = this.active;
    this.options.onRefused(set.model.revision, why);
  }

  /** Resolves when no slots are lacking of the version that is wanted, whichever that is by then, and its rules are staged. */
  private async allBuilt(): Promise<void> {
    for (;;) {
      const { wanted } = this;
      if (wanted === null) return;
      const lacking = this.chains.lacking(wanted.chains, this.statesOf(wanted.model));
      if (lacking.length > 0) await this.options.slots.build(lacking);
      else if (this.options.ruleHalves.halfOf(wanted.ruleRows) === 0)
        await this.options.ruleHalves.stage(wanted.ruleRows);
      else return;
    }
  }

  /** Brings a version into force whose devices are there; null, or why it was refused. */
  private adopt(set: TableSet): string | null {
    const base = this.base;
    if (this.active?.model !== set.model) this.base = null;
    try {
      this.publish(set);
      return null;
    } catch (error) {
      this.base = base;
      return describeError(error);
    }
  }

  /** What is in force, with health, ways and links as they are now. */
  private republish(): void {
    if (this.active === null || this.closed) return;
    try {
      this.publish(this.active);
      this.options.onTrouble('publish_failed', null);
    } catch (error) {
      this.options.onTrouble('publish_failed', describeError(error));
    }
  }

  private async republishWhenBuilt(due: readonly WantedSlots[]): Promise<void> {
    const built = this.options.slots.build(due).then(() => null, describeError);
    if (this.building) return; // whoever waits already publishes, and then finds what is still due
    this.building = true;
    const failed = await built;
    this.building = false;
    if (failed === null) this.republish();
    else this.options.onTrouble('publish_failed', failed);
  }

  private publish(set: TableSet): void {
    const { options } = this;
    const { model } = set;
    const fresh = this.active !== set;
    const newModel = this.active?.model !== model;
    const rulesChanged = this.active !== null && this.active.ruleRows !== set.ruleRows;
    const draft = this.chains.draft(set.chains, this.statesOf(model), decidesOf(model));
    // A device that has gone under a revision in force takes its own rows with it, and keeps nothing else from changing.
    this.base ??= machineRows(model, this.machine.links, { ...options, lenient: !newModel });
    const rulesHalf = options.ruleHalves.halfOf(set.ruleRows);
    if (rulesHalf === 0) throw new Fault('internal', 'the rules of this version are not staged');
    const counts = options.banks.publish([...this.base, ...draft.rows], rulesHalf);
    if (newModel) options.datapath.setHashKey(hashKeyToBigInt(model.hashKey));
    this.chains.commit(draft);
    this.active = set;
    options.datapath.bumpRoutes();
    if (rulesChanged) options.datapath.bumpRules();
    options.datapath.setLive();
    options.datapath.ports.replacePredecessor();
    this.followUp();
    if (draft.due.length > 0) void this.republishWhenBuilt(draft.due);
    if (fresh || counts.written + counts.removed > 0) options.onPublished(set, counts);
  }

  private statesOf(model: GatewayModel): (number: number) => NodeState {
    return nodeStates(model, this.options.health);
  }

  /** What nothing waits for: the idle bank is brought up to what is live. */
  private followUp(): void {
    this.followTimer ??= setTimeout(() => {
      this.followTimer = null;
      const failed = (error: unknown) => this.options.onTrouble('publish_failed', describeError(error));
      try {
        if (this.options.banks.mirror()) void this.options.ruleHalves.mirror().catch(failed);
        else this.followUp();
      } catch (error) {
        failed(error);
      }
    }, FOLLOW_UP_MS);
  }
}
