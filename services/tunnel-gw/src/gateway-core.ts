// SPDX-License-Identifier: Apache-2.0
// The heart of tunnel-gw: from tables, health, links and neighbours to the published banks. All inputs are events; each ends in at most one
// staging and one flip. Devices are made before the tables that name them, and removed after those that do not.
import { type AlarmCode, INJECT_DEVICES } from '@detour/contracts';
import { describeError, hashKeyToBigInt } from '@detour/core';
import type { NodeState } from '@detour/tables';
import type { Banks, Row } from './bank.js';
import { ChainModels } from './chain-models.js';
import type { Datapath } from './datapath.js';
import type { LiveTables } from './decision.js';
import {
  enableForwarding,
  ensureDevices,
  type LinkState,
  readLinks,
  removeDevices,
  type VtiDevice,
} from './devices.js';
import { installGuard } from './guard.js';
import type { HealthBook } from './health.js';
import type { GatewayModel, NodeModel } from './model.js';
import { baseRows } from './rows.js';
import type { TableSet } from './table-book.js';
import type { Ways } from './ways.js';

export interface CoreOptions {
  readonly datapath: Datapath;
  readonly banks: Banks;
  readonly health: HealthBook;
  readonly ways: Ways;
  readonly guardDevices: readonly string[]; // from the start-up configuration: guarded whatever the revision says
  readonly onPublished: (set: TableSet, counts: { written: number; removed: number }) => void;
  readonly onRefused: (revision: number, why: string) => void;
  readonly onTrouble: (code: AlarmCode, text: string | null) => void;
}

/** Room for the outer header of VXLAN over IPv6 with its inner Ethernet. */
const VTI_OVERHEAD = 70;
const HEALTH_WAIT_MS = 2_000;

export class GatewayCore {
  private active: TableSet | null = null;
  private base: Row[] | null = null;
  private links: ReadonlyMap<string, LinkState> = new Map();
  private readonly chains: ChainModels;
  private activating: Promise<void> = Promise.resolve();
  private wanted: TableSet | null = null;

  constructor(private readonly options: CoreOptions) {
    this.chains = new ChainModels(options.datapath.chainGenerations());
  }

  get running(): TableSet | null {
    return this.active;
  }

  get liveTables(): LiveTables | null {
    if (this.active === null) return null;
    return { rules: this.active.rules, chains: this.chains.all(), hashKey: this.active.model.hashKey };
  }

  chainGen(chain: number): number {
    return this.chains.get(chain)?.gen ?? 0;
  }

  nodeByNumber(number: number): NodeModel | undefined {
    return this.active?.model.nodes.find((node) => node.number === number);
  }

  /** Largest inner L3 packet that fits through a node's tunnel, in bytes. */
  hopMtu(node: NodeModel): number {
    const underlay = this.links.get(this.active?.model.underlay.device ?? '');
    return (underlay?.mtu ?? 0) - (node.remote.includes(':') ? 70 : 50);
  }

  deviceName(ifindex: number): string | undefined {
    for (const [name, link] of this.links) if (link.ifindex === ifindex) return name;
    return undefined;
  }

  linkOf(device: string): LinkState | undefined {
    return this.links.get(device);
  }

  /** A complete version: at once when only tables changed, after making devices when the revision is a new one. */
  offer(set: TableSet): void {
    this.wanted = set;
    if (this.active?.model === set.model) {
      this.publish(set);
      return;
    }
    this.activating = this.activating.then(() => this.activate(set));
  }

  /** Resolves when no activation is under way. */
  settled(): Promise<void> {
    return this.activating;
  }

  /** The state in force of some nodes changed. Synchronous: the map is changed when this returns. */
  healthChanged(): void {
    if (this.active !== null) this.publish(this.active);
  }

  /** A way to a node (its neighbours, its route) changed. */
  waysChanged(): void {
    this.base = null;
    if (this.active !== null) this.publish(this.active);
  }

  /** Links or addresses may have changed: compares, and publishes when they did. */
  async refreshLinks(): Promise<void> {
    if (this.active === null) return;
    const before = JSON.stringify([...this.links]);
    const links = await readLinks();
    if (JSON.stringify([...links]) === before) return;
    this.links = links;
    try {
      this.attachAll(this.active.model);
      this.waysChanged();
    } catch (error) {
      this.options.onTrouble('device_missing', describeError(error));
    }
  }

  private async activate(set: TableSet): Promise<void> {
    if (this.wanted !== set) return; // a newer one came meanwhile
    const { model } = set;
    const { options } = this;
    try {
      const vtis = vtiDevices(model, (await readLinks()).get(model.underlay.device)?.mtu ?? 1500);
      const guarded = guardedDevices(model);
      const before = this.active === null ? [] : guardedDevices(this.active.model);
      await installGuard([...options.guardDevices, ...before, ...guarded]);
      this.links = await ensureDevices(vtis);
      await enableForwarding(portDevices(model).filter((device) => this.links.has(device)));
      await options.ways.follow(model);
      this.attachAll(model);
      if (this.active === null && options.datapath.live) await this.healthOrDeadline();
      if (this.wanted !== set) return;
      options.datapath.setHashKey(hashKeyToBigInt(model.hashKey));
      this.base = null;
      this.publish(set);
      await installGuard([...options.guardDevices, ...guarded]);
      options.datapath.detachAllBut(new Set(attachedDevices(model)));
      await removeDevices(new Set(vtis.map((vti) => vti.device)));
    } catch (error) {
      this.options.onRefused(model.revision, describeError(error));
    }
  }

  /**
   * A predecessor's tables are live: they stay until bfd has said how the nodes are, so that a restart sends nobody to a node that is not
   * known to be up, and drops nothing meanwhile.
   */
  private async healthOrDeadline(): Promise<void> {
    const until = performance.now() + HEALTH_WAIT_MS;
    while (!this.options.health.isConnected && performance.now() < until) {
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
    }
  }

  private publish(set: TableSet): void {
    const { options } = this;
    const rulesChanged = this.active !== null && this.active.ruleRows !== set.ruleRows;
    try {
      this.chains.update(set.chains, (number) => this.stateOf(set.model, number));
      this.base ??= baseRows({
        model: set.model,
        links: this.links,
        injectInner: INJECT_DEVICES[1],
        wayTo: (remote, device, peer) => options.ways.wayTo(remote, device, peer, this.links),
      });
      const counts = options.banks.publish([...this.base, ...this.chains.rows()]);
      options.datapath.bumpRoutes();
      if (rulesChanged) options.datapath.bumpRules();
      options.datapath.setLive();
      const fresh = this.active !== set;
      this.active = set;
      options.onTrouble('device_missing', null);
      if (fresh || counts.written + counts.removed > 0) options.onPublished(set, counts);
    } catch (error) {
      if (this.active?.model === set.model) options.onTrouble('device_missing', describeError(error));
      else throw error;
    }
  }

  private stateOf(model: GatewayModel, number: number): NodeState {
    const node = model.nodes.find((row) => row.number === number);
    if (node === undefined) return 'down'; // not attached here: never up
    return node.liveness ? this.options.health.viewOf(node.name).inForce : 'up';
  }

  private attachAll(model: GatewayModel): void {
    const modes = new Map(model.ports.map((port) => [port.device, port.attachMode]));
    modes.set(model.underlay.device, model.underlay.attachMode);
    for (const device of attachedDevices(model)) {
      const link = this.links.get(device);
      if (link !== undefined) this.options.datapath.attach(device, link.ifindex, modes.get(device) ?? 'auto');
    }
  }
}

/** Where the program runs. On the operator's side of a VTI it has no row and passes: veth needs a program there to take redirects. */
function attachedDevices(model: GatewayModel): string[] {
  return [
    ...model.ports.flatMap((port) =>
      port.tunnel === null ? [port.device] : [port.tunnel.inner, port.device],
    ),
    ...model.nodes.flatMap((node) => [node.inner, node.device]),
    model.underlay.device,
    INJECT_DEVICES[1],
  ];
}

function portDevices(model: GatewayModel): string[] {
  return [
    ...model.ports.map((port) => port.device),
    ...model.nodes.map((node) => node.device),
    model.underlay.device,
  ];
}

/** Devices across which the kernel itself must not route. */
function guardedDevices(model: GatewayModel): string[] {
  return [...model.ports.map((port) => port.device), ...model.nodes.map((node) => node.device)];
}

function vtiDevices(model: GatewayModel, underlayMtu: number): VtiDevice[] {
  const mtu = Math.min(1500, Math.max(1280, underlayMtu - VTI_OVERHEAD));
  const branches = model.ports.flatMap((port) =>
    port.tunnel === null
      ? []
      : [
          {
            device: port.device,
            inner: port.tunnel.inner,
            mac: port.tunnel.mac,
            addresses: port.tunnel.addresses,
            mtu,
          },
        ],
  );
  const nodes = model.nodes.map((node) => ({
    device: node.device,
    inner: node.inner,
    mac: node.mac,
    addresses: [node.local],
    mtu,
  }));
  return [...branches, ...nodes];
}
